"""The states of an exchange, and which may follow which.

admitted ──► routed ──► sent ──► answering ──► done
   │          ▲  ▲        │
   ▼          │  └─retry──┘
  queued ─────┘

Every state may also go straight to done: an answer that comes in one piece is never `answering`. `routed`
waits for a connection, so it is left out where one is idle.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    ADMITTED = 0
    QUEUED = 1
    ROUTED = 2
    SENT = 3
    ANSWERING = 4
    DONE = 5


TRANSITIONS: dict[State, frozenset[State]] = {
    State.ADMITTED: frozenset({State.QUEUED, State.ROUTED, State.SENT, State.DONE}),
    State.QUEUED: frozenset({State.ROUTED, State.SENT, State.DONE}),
    State.ROUTED: frozenset({State.SENT, State.ROUTED, State.DONE}),
    State.SENT: frozenset({State.ANSWERING, State.ROUTED, State.SENT, State.DONE}),
    State.ANSWERING: frozenset({State.DONE}),
    State.DONE: frozenset(),
}

ADMITTED, QUEUED, ROUTED, SENT, ANSWERING, DONE = State


class IllegalTransition(RuntimeError):
    """A bug: an exchange was driven in an order that the table does not have."""
