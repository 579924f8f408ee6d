"""One worker as the router sees it: the fleet's record, the mirror of its cache, its queue and its speed."""

from __future__ import annotations

from typing import Protocol

from gateway.routing.estimate import PrefillQueue, WorkerSpeed
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.fleet import Worker
from gateway.routing.index import CacheMirror
from gateway.routing.recent_models import RecentModels


class ConfirmedCache(Protocol):
    """What the engine itself says it holds."""

    def depth(self, prompt: Fingerprint) -> int:
        """How many of the prompt's prefixes are there, counted from the shallowest."""


class WorkerState:
    """Lives as long as the worker is a member; a request that outlives it ends on the record it began on."""

    __slots__ = (
        "cache",
        "computed_bytes",
        "confirmed",
        "queue",
        "recent_models",
        "speed",
        "tells_hits",
        "worker",
    )

    def __init__(self, worker: Worker, cache: CacheMirror) -> None:
        self.worker = worker
        self.cache = cache
        self.queue = PrefillQueue()
        self.speed = WorkerSpeed()
        self.recent_models = RecentModels()
        self.computed_bytes = 0
        """Prompt bytes sent here that were not thought to be cached, ever."""
        self.tells_hits = False
        """The engine has reported cached tokens, so its silence about them means none."""
        self.confirmed: ConfirmedCache | None = None
        """Set while the worker's KV events are live."""

    def forget_cache(self) -> None:
        """The worker restarted."""
        self.cache.clear()
        self.recent_models.clear()
