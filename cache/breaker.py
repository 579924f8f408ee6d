"""A circuit breaker: leave a tier that fails alone for a while, then try it once."""

from __future__ import annotations

_LONGEST_SECONDS = 60.0


class Breaker:
    """Closed while operations succeed. Open, nothing is tried; after a pause one operation is let through.

    Not thread-safe; time is an argument (seconds).
    """

    def __init__(self, failures_to_open: int, retry_seconds: float) -> None:
        self._threshold = failures_to_open
        self._first_pause = retry_seconds
        self._pause = retry_seconds
        self._failures = 0
        self._retry_at: float | None = None

    def allows(self, now: float) -> bool:
        """Whether an operation may begin. True while open admits the one trial, so begin it."""
        if self._retry_at is None:
            return True
        if now < self._retry_at:
            return False
        self._retry_at = now + self._pause
        return True

    def is_open(self, now: float) -> bool:
        """Whether `allows` would refuse. Changes nothing."""
        return self._retry_at is not None and now < self._retry_at

    def succeeded(self) -> None:
        self._failures = 0
        self._pause = self._first_pause
        self._retry_at = None

    def failed(self, now: float) -> None:
        """An operation failed in a way that speaks against the tier."""
        self._failures += 1
        if self._retry_at is not None:
            self._pause = min(self._pause * 2, _LONGEST_SECONDS)
        if self._failures >= self._threshold:
            self._retry_at = now + self._pause
