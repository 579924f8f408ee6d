"""What a routing policy is: a choice among workers, from what is known of them now. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.state import WorkerState


class Choice(msgspec.Struct, frozen=True, eq=False, gc=False):
    """`depth` (cached prefixes at the chosen worker) is -1 where the policy did not look."""

    state: WorkerState
    why: str
    """Short printable ASCII without spaces or semicolons; empty where the policy's name says it all."""
    depth: int = -1
    estimate: float = -1.0
    """Seconds to the first token there; -1 where the policy did not reckon."""


class Policy(Protocol):
    """One instance per router and model, so that counters and rings of its own do not mix models."""

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        """Choose one of `candidates`, which is not empty and in the order of the fleet."""
