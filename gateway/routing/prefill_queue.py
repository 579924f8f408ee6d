"""The prefills that one worker has before it, and how long they will take."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from gateway.routing.estimate import PrefillRates, Work

OVERRUN: Final = 0.25
"""A prefill that is late by t is expected to need this share of t more: a stalled worker looks ever worse."""


class PrefillQueue:
    """Requests at one worker whose first token this process still waits for, in order of arrival.

    The first is taken to be in the worker's hands; most of the time it is the only one.
    """

    __slots__ = (
        "_area",
        "_behind",
        "_behind_s",
        "_factor",
        "_first_key",
        "_first_s",
        "_fit",
        "_new",
        "_since",
        "busy",
        "first",
        "others_until",
    )

    def __init__(self) -> None:
        self.first: Work | None = None
        """What is being prefilled; read only."""
        self.others_until = 0.0
        """When the work that other gateways have queued here should be done, on the router's clock."""
        self.busy = False
        """False: there is nothing here, so that nobody need ask how long it takes. Read only."""
        self._first_key: Hashable = None
        self._since = 0.0
        self._behind: dict[Hashable, Work] = {}
        self._new = self._area = 0
        """Sums over those behind the first."""
        self._first_s = self._behind_s = 0.0
        """What they take at these rates."""
        self._fit: object = None
        self._factor = 1.0

    def __len__(self) -> int:
        return len(self._behind) + (self.first is not None)

    @property
    def new_bytes(self) -> int:
        return self._new + (self.first.new if self.first is not None else 0)

    def add(self, key: Hashable, work: Work, now: float) -> None:
        """A request was sent to the worker; `key` is not None and not in the queue."""
        self._fit = None
        if self.first is None:
            self.first, self._first_key, self._since = work, key, now
            self.busy = True
        else:
            self._behind[key] = work
            self._new += work.new
            self._area += work.area

    def done(self, key: Hashable, now: float) -> float | None:
        """The prefill ended. Returns the seconds that it had the worker, as seen here: since it arrived at an
        idle worker or since the last one ended. None if it was not waiting."""
        if key == self._first_key:
            self._next(now)
        elif not self._leave(key):
            return None
        served = now - self._since
        self._since = now
        return served

    def cancel(self, key: Hashable, now: float) -> None:
        """The request ended without having been prefilled, as far as we know."""
        if key == self._first_key:
            self._next(now)
            self._since = now
        else:
            self._leave(key)

    def _next(self, now: float) -> None:
        """The first has gone."""
        self._fit = None
        if self._behind:
            self._first_key = next(iter(self._behind))
            self.first = first = self._behind.pop(self._first_key)
            self._new -= first.new
            self._area -= first.area
        else:
            self.first = self._first_key = None
            self.busy = self.others_until > now

    def _leave(self, key: Hashable) -> bool:
        """One of those behind has gone, if it was there."""
        work = self._behind.pop(key, None)
        if work is None:
            return False
        self._fit = None
        self._new -= work.new
        self._area -= work.area
        return True

    def observe_others(self, until: float) -> None:
        """Other gateways have work here that should be done by then."""
        self.others_until = until
        self.busy = True

    def seconds(self, rates: PrefillRates, factor: float, now: float) -> float:
        """Time until a prefill that arrives now could begin."""
        wait = self.others_until - now if self.others_until > now else 0.0
        while (first := self.first) is not None:
            if self._fit is not rates.fit or self._factor != factor:
                self._reckon(first, rates, factor)
            late = now - self._since - self._first_s
            if late < 0.0:
                return wait + self._behind_s - late
            if first.end_seen:
                return wait + self._behind_s + OVERRUN * late
            # Nobody will tell us of its end, and its time is over.
            self.done(self._first_key, self._since + self._first_s)
        return wait

    def _reckon(self, first: Work, rates: PrefillRates, factor: float) -> None:
        """What is queued, in seconds. Holds until something comes or goes or the rates are others."""
        self._fit, self._factor = rates.fit, factor
        overhead, by_byte, by_area = rates.overhead, rates.by_byte, rates.by_area
        self._first_s = factor * (overhead + by_byte * first.new + by_area * first.area)
        self._behind_s = 0.0
        if self._behind:
            new, area = self._new + first.new, self._area + first.area
            whole = factor * ((len(self._behind) + 1) * overhead + by_byte * new + by_area * area)
            self._behind_s = whole - self._first_s
