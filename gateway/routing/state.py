"""One worker as the router sees it: the fleet's record, the mirror of its cache, its queue and its speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.routing.estimate import LoadPrices, PrefillRates, Work, WorkerSpeed
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.fleet import Worker
from gateway.routing.index import CacheMirror
from gateway.routing.prefill_queue import PrefillQueue
from gateway.routing.recent_models import RecentModels


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """A request that the engine answered. Times in seconds of the router's clock."""

    prompt: Fingerprint
    prompt_tokens: int
    cached_tokens: int | None
    """None where the engine does not say."""
    assigned_at: float
    first_byte_at: float
    ended_at: float


class BlockWatcher(Protocol):
    """Wants to know which requests ended, to find out which of the engine's blocks they became."""

    def ended(self, request: EndedRequest) -> None:
        """A request that got an answer."""


class ConfirmedCache(Protocol):
    """What the engine itself says it holds."""

    def depth(self, prompt: Fingerprint) -> int:
        """How many of the prompt's prefixes are there, counted from the shallowest."""


MEAN_STEP = 0.1
"""Weight of the latest prefill in a worker's mean."""


class WorkerState:
    """Lives as long as the worker is a member; a request that outlives it ends on the record it began on."""

    __slots__ = (
        "cache",
        "computed_bytes",
        "confirmed",
        "_mean_service",
        "links",
        "load_prices",
        "queue",
        "recent_models",
        "speed",
        "tells_hits",
        "worker",
    )

    def __init__(self, worker: Worker, cache: CacheMirror, prices: LoadPrices | None = None) -> None:
        """`prices` are those of all workers."""
        self.worker = worker
        self.cache = cache
        self.queue = PrefillQueue()
        self.speed = WorkerSpeed()
        self.load_prices = LoadPrices(prices)
        self.recent_models = RecentModels()
        self._mean_service = 0.0
        self.computed_bytes = 0
        """Prompt bytes sent here that were not thought to be cached, ever."""
        self.tells_hits = False
        """The engine has reported cached tokens, so its silence about them means none."""
        self.confirmed: ConfirmedCache | None = None
        """Set while the worker's KV events are live and complete."""
        self.links: BlockWatcher | None = None
        """Set while there are KV events."""

    def work(self, prompt: Fingerprint, depth: int, cached: int, end_seen: bool) -> Work:
        """What a prompt takes here, of which `depth` prefixes, `cached` bytes, are on the device."""
        total = prompt.total_bytes
        cache = self.cache
        if cache.tiered and cache.has_lower:
            deeper, tiers = cache.lower_depth(prompt, depth)
            if tiers:
                loaded = prompt.covered(deeper) - cached
                new = total - cached - loaded + int(self.load_prices.of(tiers) * loaded)
                return Work(new, new * (2 * total - new), end_seen, loaded, tiers)
        new = total - cached
        return Work(new, new * (cached + total), end_seen)

    def observe_waiting(self, waiting: int, now: float) -> None:
        """See `Router.observe_load`."""
        others = max(0, waiting - len(self.queue))
        self.queue.observe_others(now + others * self._mean_service)

    def learn(self, rates: PrefillRates, work: Work, seconds: float) -> None:
        """`work` took `seconds` of this worker's time."""
        self._mean_service += MEAN_STEP * (seconds - self._mean_service)
        if work.loaded:
            computing = self.speed.factor * rates.by_byte
            spent_loading = (
                seconds
                - self.speed.factor * rates.of(work)
                + computing * work.loaded * (self.load_prices.of(work.tiers))
            )
            if computing > 0.0:
                self.load_prices.observe(work.tiers, spent_loading / (computing * work.loaded))
            return
        self.speed.observe(rates, work, seconds)

    def forget_cache(self) -> None:
        """The worker restarted."""
        self.cache.clear()
        self.recent_models.clear()
