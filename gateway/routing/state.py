"""One worker as the router sees it: the fleet's record, the mirror of its cache, its queue and its rates."""

from __future__ import annotations

from gateway.routing.estimate import PrefillQueue, WorkerSpeed
from gateway.routing.fleet import Worker
from gateway.routing.index import CacheMirror


class WorkerState:
    """Lives as long as the worker is a member; a request that outlives it ends on the record it began on."""

    __slots__ = ("cache", "computed_bytes", "queue", "speed", "tells_hits", "worker")

    def __init__(self, worker: Worker, cache: CacheMirror) -> None:
        self.worker = worker
        self.cache = cache
        self.queue = PrefillQueue()
        self.speed = WorkerSpeed()
        self.computed_bytes = 0
        """Prompt bytes sent here that were not thought to be cached, ever."""
        self.tells_hits = False
        """The engine has reported cached tokens, so its silence about them means none."""
