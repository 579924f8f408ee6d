"""The events of one answer, numbered from 1 and kept in a ring that is bounded in bytes. No I/O, no clock.

The ring forgets from the old end only, so what is kept is always a run of numbers `first .. last`.
"""

from __future__ import annotations

from bisect import bisect_left

EVENT_OVERHEAD = 64
"""Bytes that an event costs beside its own: the object, its place in the ring, its time."""


class Truncated(Exception):
    """Events that were asked for are not kept any more."""

    def __init__(self, first: int) -> None:
        super().__init__(f"events before number {first} are not kept any more")
        self.first = first


class TokenLog:
    """`limit` is in bytes, overhead included; at least the newest event is kept whatever its size."""

    __slots__ = ("_events", "_start", "_times", "first", "last", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.first = 1
        """Number of the oldest event that is kept; `last + 1` if none is."""
        self.last = 0
        self.size = 0
        self._events: list[bytes] = []
        self._times: list[float] = []
        self._start = 0
        """Index of event `first`; what is before it is garbage that is cut off now and then."""

    def append(self, event: bytes, now: float) -> int:
        """Take the next event (whole, with its blank line); returns its number. Drops old ones for it."""
        self._events.append(event)
        self._times.append(now)
        self.last += 1
        self.size += len(event) + EVENT_OVERHEAD
        if self.size > self.limit:
            self.shrink(self.limit)
        return self.last

    def shrink(self, size: int) -> int:
        """Drop the oldest events until at most `size` bytes are left, but never the newest; bytes freed."""
        before = self.size
        while self.size > size and self.first < self.last:
            self.size -= len(self._events[self._start]) + EVENT_OVERHEAD
            self._events[self._start] = b""
            self._start += 1
            self.first += 1
        if self._start > 256 and self._start * 2 > len(self._events):
            del self._events[: self._start]
            del self._times[: self._start]
            self._start = 0
        return before - self.size

    def after(self, number: int, limit: int | None = None) -> list[bytes]:
        """Events `number + 1 .. last`, at most `limit`. Raises Truncated if some are not kept any more."""
        if number + 1 < self.first:
            raise Truncated(self.first)
        start = self._start + number + 1 - self.first
        return self._events[start : None if limit is None else start + limit]

    def late(self, before: int, upto: int, moment: float) -> int:
        """How many of events `before + 1 .. upto` came before `moment`, as far as they are kept."""
        start, end = self._slice(before, upto)
        times = self._times
        if end - start == 1:
            return int(times[start] < moment)
        return max(0, bisect_left(times, moment, start, max(start, end)) - start)

    def size_of(self, before: int, upto: int) -> int:
        """Bytes of events `before + 1 .. upto`, as far as they are kept."""
        start, end = self._slice(before, upto)
        return sum(map(len, self._events[start:end]))

    def _slice(self, before: int, upto: int) -> tuple[int, int]:
        first = max(before + 1, self.first)
        return self._start + first - self.first, self._start + upto + 1 - self.first
