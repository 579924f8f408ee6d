"""When a second attempt is worth it: a budget shared by all requests, and the delay after which to hedge."""

from __future__ import annotations

from collections import deque

from gateway.relay.settings import Hedging, Retries


class RetryBudget:
    """Second attempts as a share of recent requests, so that retries cannot multiply a failure.

    The idea is Finagle's. The window is two halves that rotate: the current one and the one before count.
    """

    def __init__(self, settings: Retries) -> None:
        self._share = settings.budget
        self._floor = settings.budget_floor
        self._half = settings.window / 2
        self._until = 0.0
        self._requests = [0, 0]
        self._retries = [0, 0]

    def request(self, now: float) -> None:
        """A new request came in."""
        if now >= self._until:
            self._rotate(now)
        self._requests[0] += 1

    def take(self, now: float) -> bool:
        """May one more second attempt be made? Counts it if so."""
        if now >= self._until:
            self._rotate(now)
        if sum(self._retries) >= max(self._floor, self._share * sum(self._requests)):
            return False
        self._retries[0] += 1
        return True

    def _rotate(self, now: float) -> None:
        fresh = now < self._until + self._half
        self._until = now + self._half
        self._requests = [0, self._requests[0] if fresh else 0]
        self._retries = [0, self._retries[0] if fresh else 0]


class HedgeDelay:
    """How late a first byte must be before a second worker is asked: a quantile of recent ones."""

    _MIN_SAMPLES = 20

    def __init__(self, settings: Hedging) -> None:
        self._settings = settings
        self._recent: deque[float] = deque(maxlen=512)
        self.seconds = float("inf")

    def observe(self, ttft: float) -> None:
        self._recent.append(ttft)

    def update(self) -> None:
        """Recompute `seconds`; called by the sweep, not per request."""
        if len(self._recent) >= self._MIN_SAMPLES:
            ordered = sorted(self._recent)
            rank = int(self._settings.quantile * (len(ordered) - 1))
            self.seconds = max(self._settings.min_seconds, ordered[rank])
