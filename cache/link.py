"""The store's end of one slower tier: its threads, circuit breaker, queue, policy and counters."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cache.breaker import Breaker
from cache.codecs.codec import Codec
from cache.counters import TierCounters, TierStats
from cache.economy import Economy
from cache.index import Entry
from cache.keys import ChunkKey
from cache.ladder import Streamer
from cache.landing import FrameLanding
from cache.lane import Lane, MakeLane
from cache.policies.policy import EvictionPolicy, make_policy
from cache.settings import NO_QUOTAS, LinkSettings, Owner, Quotas
from cache.tiers.pins import DirectoryPins
from cache.tiers.tier import Accounting, Apportioned, Fault, Found, Frame, Tier

_log = logging.getLogger(__name__)
_READS_WAITING = 4096
_WRITES_WAITING = 1024
"""Jobs, each of many chunks."""
_MISSES_KEPT = 4096
REFUSED = frozenset({Fault.FULL, Fault.QUOTA, Fault.NAMESPACE_QUOTA})
"""Faults of a put that eviction may mend."""
_STUCK_FACTOR = 2.0
"""A lane whose job takes this many times its deadline counts as broken."""
_CLOSE_SECONDS = 2.0
_TENANTS_SECONDS = 1.0

T = TypeVar("T")


@dataclass(slots=True)
class Save:
    """A chunk waiting to be written; its entry is held meanwhile."""

    entry: Entry
    codec: Codec
    then: Callable[[bool], None] | None
    """Called with the store's lock held, and whether the frame is there now."""


class Link:
    """Every call to the tier goes through here: guarded, timed, counted. `clock` is monotonic."""

    def __init__(
        self,
        tier: Tier,
        settings: LinkSettings,
        codec: Codec,
        economy: Economy,
        clock: Callable[[], float],
        policy: str = "lru",
        make_lane: MakeLane = Lane,
    ) -> None:
        self.name = tier.name
        self.tier = tier
        self.settings = settings
        self.codec = codec
        self.counters = TierCounters()
        self.reads = make_lane(f"sluice-kv-{tier.name}-load", _READS_WAITING, clock)
        self.writes = make_lane(f"sluice-kv-{tier.name}-save", _WRITES_WAITING, clock)
        self.waiting: deque[Save] = deque()
        self.saving: set[ChunkKey] = set()
        """Keys waiting or being written."""
        self.draining = False
        """Whether a job on the write lane looks after `waiting`."""
        self.policy: EvictionPolicy | None = None
        """Of the frames that this process knows of; None for a tier that its own server bounds."""
        if tier.capacity is not None:
            self.policy = make_policy(policy, tier.capacity)
        self.quotas: Quotas = NO_QUOTAS
        """What tenants and namespaces may have in the tier."""
        self.pins: DirectoryPins | None = None
        """Where pins bind other processes too."""
        self.streamer: Streamer | None = None
        """Chooses levels, where the settings ask for that."""
        self.beside: Callable[[Sequence[ChunkKey]], list[ChunkKey]] = lambda keys: []
        """Where other copies of chunks lie in this tier, which are deleted along."""
        self._economy = economy
        self._clock = clock
        self._breaker = Breaker(settings.failures_to_open, settings.retry_seconds)
        self._breaker_lock = threading.Lock()
        self._tenants_known: dict[str, int] = {}
        self._tenants_until = float("-inf")
        self._misses: OrderedDict[ChunkKey, float] = OrderedDict()

    def available(self) -> bool:
        """Whether it is worth queueing something: the circuit is closed and no operation hangs."""
        now = self._clock()
        limit = _STUCK_FACTOR * self.settings.timeout_seconds
        stuck = any(lane.began is not None and now - lane.began > limit for lane in (self.reads, self.writes))
        return not stuck and not self._breaker.is_open(now)

    # Called on the lanes

    def load(self, keys: Sequence[ChunkKey], landing: FrameLanding) -> list[Fault | None]:
        """Read, verify and decode a batch."""
        start = self._clock()
        faults = self._guard(keys, lambda deadline: self.tier.get(keys, landing, deadline))
        faults = landing.finish(faults)
        arrived = [
            header.head_bytes + header.payload_bytes
            for header, fault in zip(landing.headers, faults, strict=True)
            if fault is None and header is not None
        ]
        nbytes = sum(arrived)
        seconds = self._clock() - start
        counters = self.counters
        counters.loads += len(arrived)
        counters.read_bytes += nbytes
        counters.read_seconds += seconds
        if arrived:
            self._economy.observe_load(self.name, len(arrived), nbytes, seconds)
        if len(arrived) < len(faults):
            for fault in faults:
                if fault is not None:
                    counters.fault(fault)
        return faults

    def store(self, frames: Sequence[Frame]) -> list[Fault | None]:
        """Write a batch once."""
        start = self._clock()
        keys = [frame.key for frame in frames]
        faults = self._guard(keys, lambda deadline: self.tier.put(frames, deadline))
        counters = self.counters
        counters.write_seconds += self._clock() - start
        for frame, fault in zip(frames, faults, strict=True):
            if fault is None:
                counters.saves += 1
                counters.written_bytes += frame.nbytes
            elif fault not in REFUSED:
                counters.fault(fault)
        return faults

    def contains(self, keys: Sequence[ChunkKey]) -> list[Found | Fault]:
        """What is there; faults other than ABSENT are counted."""
        answers = self._guard(keys, lambda deadline: self.tier.contains(keys, deadline))
        for answer in answers:
            if isinstance(answer, Fault) and answer is not Fault.ABSENT:
                self.counters.fault(answer)
        return answers

    def delete(self, keys: Sequence[ChunkKey]) -> list[int | Fault]:
        """Remove frames."""
        doomed = [*keys, *self.beside(keys)]
        return self._guard(doomed, lambda deadline: self.tier.delete(doomed, deadline))[: len(keys)]

    def scan(self) -> list[Found]:
        """All frames that can be listed within the deadline, least recently used first."""
        found: list[Found] = []
        try:
            found.extend(self.tier.scan(self._clock() + 10 * self.settings.timeout_seconds))
        except Exception:
            _log.exception("scanning tier %s failed", self.name)
            self.counters.fault(Fault.IO)
        return sorted(found, key=lambda item: item.used)

    # With the store's lock held

    def recently_missed(self, key: ChunkKey) -> bool:
        """Whether the tier said within `miss_memory_seconds` that it has no such chunk."""
        until = self._misses.get(key)
        return until is not None and until > self._clock()

    def missed(self, key: ChunkKey, seconds: float) -> None:
        """Remember that the tier does not have a chunk."""
        self._misses[key] = self._clock() + seconds
        self._misses.move_to_end(key)
        if len(self._misses) > _MISSES_KEPT:
            self._misses.popitem(last=False)

    def stats(self, chunks: int) -> TierStats:
        """Counters and fill; `chunks` is what the index knows to be here."""
        return TierStats(
            counters=self.counters.copy(),
            chunks=chunks,
            used_bytes=self.tier.used(),
            streamed=dict(self.streamer.chunks) if self.streamer is not None else {},
            tenants=self._tenants(),
            capacity_bytes=self.tier.capacity,
            queued=len(self.waiting),
            available=self.available(),
        )

    def used_by(self) -> Mapping[Owner, int]:
        """Bytes in the tier by tenant and by namespace, where it counts them."""
        return self.tier.used_by() if isinstance(self.tier, Apportioned) else {}

    def shares(self, owners: Iterable[Owner], deadline: float) -> Mapping[Owner, int]:
        """The same, asked anew where the tier's server counts; for people, who may wait for it."""
        if isinstance(self.tier, Accounting) and self.available():
            return self.tier.shares(owners, deadline)
        return self.used_by()

    def _tenants(self) -> dict[str, int]:
        """Bytes by tenant, read anew once a second: engines ask for statistics with every request."""
        now = self._clock()
        if now >= self._tenants_until:
            self._tenants_until = now + _TENANTS_SECONDS
            self._tenants_known = {
                owner: used for owner, used in self.used_by().items() if isinstance(owner, str)
            }
        return dict(self._tenants_known)

    def close(self) -> bool:
        """Stop the lanes; returns whether both have ended, so that nothing touches a slot any more."""
        ended = [lane.close(_CLOSE_SECONDS) for lane in (self.reads, self.writes)]
        if all(ended):
            self.tier.close()
        return all(ended)

    def _guard(self, keys: Sequence[ChunkKey], call: Callable[[float], list[T]]) -> list[T | Fault]:
        """Call the tier unless the circuit is open; an exception, which no tier should raise, is a fault
        too."""
        now = self._clock()
        with self._breaker_lock:
            allowed = self._breaker.allows(now)
        if not allowed:
            self.counters.refused += 1
            return [Fault.GONE] * len(keys)
        answers: list[T | Fault]
        try:
            answers = list(call(now + self.settings.timeout_seconds))
        except Exception:
            _log.exception("tier %s raised where it should answer", self.name)
            answers = [Fault.IO] * len(keys)
        failed = any(isinstance(answer, Fault) and answer.breaks for answer in answers)
        with self._breaker_lock:
            if failed:
                self._breaker.failed(self._clock())
            else:
                self._breaker.succeeded()
        return answers
