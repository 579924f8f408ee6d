"""One run of the stream lab: an answer's tokens, both wires of a link, and when what was delivered."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from gateway.lab.arrivals import token_times
from gateway.lab.clock import Clock
from gateway.lab.links import Link, Outages, Wire

PATIENCE = 60.0
"""Seconds after the last token at which a run ends, whatever is missing."""
_WORDS = (
    " the",
    " token",
    "ization",
    " of",
    " large",
    " language",
    " models",
    " is",
    " a",
    ",",
    " stream",
    ".\n",
)


@dataclass(slots=True)
class Case:
    """The same `seed` gives every scheme the same tokens and the same bad periods."""

    link: Link
    seed: int
    ready: list[float] = field(init=False)
    """When each token was written, in seconds."""
    outages: Outages = field(init=False)
    down: Wire = field(init=False)
    up: Wire = field(init=False)
    spare: tuple[Wire, Wire] | None = None
    """Down and up of a second path like the first, with bad periods of its own."""
    clock: Clock = field(init=False)
    arrived: list[float] = field(init=False)
    """When each token was at the client; infinite until then."""
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        link, seed = self.link, self.seed
        self.ready = token_times(link.tokens, link.seconds, random.Random(f"tokens {seed}"))
        self.outages, self.down, self.up = self._path("")
        self.clock = Clock()
        self.arrived = [float("inf")] * len(self.ready)
        self.missing = len(self.ready)

    def _path(self, name: str) -> tuple[Outages, Wire, Wire]:
        link, seed = self.link, f"{name}{self.seed}"
        end = self.ready[-1] + PATIENCE
        outages = link.outages(random.Random(f"down {seed}"), end)
        back = outages if link.shared else link.outages(random.Random(f"up {seed}"), end)
        down = Wire(link, outages, random.Random(f"lost down {seed}"), limited=True)
        return outages, down, Wire(link, back, random.Random(f"lost up {seed}"), limited=False)

    def second_path(self) -> tuple[Wire, Wire]:
        """Down and up of the second path, which is there from now on."""
        _, down, up = self._path("spare ")
        self.spare = (down, up)
        return self.spare

    def text(self, token: int) -> bytes:
        """What token number `token` says."""
        return _WORDS[token * 7 % len(_WORDS)].encode() + b"x" * self.link.extra

    def arrive(self, token: int) -> None:
        """Token number `token` is at the client, now; its first arrival counts."""
        if self.arrived[token] == float("inf"):
            self.arrived[token] = self.clock.now
            self.missing -= 1

    def run(self) -> None:
        """Let the clock run until every token has arrived."""
        self.clock.run(self.ready[-1] + PATIENCE, lambda: not self.missing)
