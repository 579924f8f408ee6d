"""The states of an exchange, and which may follow which.

admitted ──► routed ──► sent ──► answering ──► done
   │          ▲  ▲        │
   ▼          │  └─retry──┘
  queued ─────┘                        every state may also go straight to done
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
    State.ADMITTED: frozenset({State.QUEUED, State.ROUTED, State.DONE}),
    State.QUEUED: frozenset({State.ROUTED, State.DONE}),
    State.ROUTED: frozenset({State.SENT, State.ROUTED, State.DONE}),
    State.SENT: frozenset({State.ANSWERING, State.ROUTED, State.DONE}),
    State.ANSWERING: frozenset({State.DONE}),
    State.DONE: frozenset(),
}

ADMITTED, QUEUED, ROUTED, SENT, ANSWERING, DONE = State


class IllegalTransition(RuntimeError):
    """A bug: an exchange was driven in an order that the table does not have."""
