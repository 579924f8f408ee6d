"""Small stores whose transfers run when the test says so, and whose clock only the test moves."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

import numpy as np

from cache.arena import SLOT_HEADER, SlotRef
from cache.keys import ChunkKey, Namespace, chunk_keys
from cache.layout import KVLayout
from cache.lease import Reservation
from cache.settings import LinkSettings, MemorySettings, StoreSettings
from cache.store import Store
from cache.tiers.build import TierPlan
from cache.tiers.memory import MemoryTier

LAYOUT = KVLayout(layers=2, kv_heads=1, head_dim=16, dtype="bfloat16", block_tokens=16, page_format="plain")
CHUNK_BYTES = LAYOUT.block_bytes


class Clock:
    """Monotonic and wall-clock time in one."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Jobs:
    """Lanes without threads: every job waits here until the test runs it, or has a thread run them all."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def lane(self, name: str, limit: int, clock: Callable[[], float]) -> ManualLane:
        return ManualLane(self)

    def step(self) -> bool:
        """Run the oldest job; False if there is none."""
        try:
            job = self.waiting.get_nowait()
        except queue.Empty:
            return False
        if job is not None:
            job()
        self.waiting.task_done()
        return True

    def run(self) -> None:
        while self.step():
            pass

    def start(self) -> None:
        """From here on a thread runs the jobs: for calls that block until they are done."""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Wait until every job so far has been run."""
        self.waiting.join()

    def stop(self) -> None:
        self.waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (job := self.waiting.get()) is not None:
            job()
            self.waiting.task_done()


class ManualLane:
    began = None

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def submit(self, job: Callable[[], object]) -> bool:
        self._jobs.waiting.put(job)
        return True

    def close(self, seconds: float) -> bool:
        return True


class SharedMemoryTier(MemoryTier):
    """Stands for a tier that other processes write to."""

    name = "file"
    shared = True

    def close(self) -> None:
        """Outlives the stores that use it."""


class Bench:
    """A store with what a test needs around it."""

    def __init__(
        self, slots: int = 8, *, tiers: Sequence[TierPlan] = (), refill: float = 0.0, **settings: object
    ) -> None:
        self.clock = Clock()
        self.jobs = Jobs()
        size = slots * (CHUNK_BYTES + SLOT_HEADER)
        memory = MemorySettings(bytes=size, policy="lru", refill=refill, prefault=False)
        self.store = Store(
            LAYOUT,
            StoreSettings(memory=memory, **settings),  # type: ignore[arg-type]
            tiers=tiers,
            make_lane=self.jobs.lane,
            clock=self.clock,
            wall=self.clock,
        )

    def keys(self, count: int, *, start: int = 0, tenant: str = "", kind: str = "exact") -> list[ChunkKey]:
        return keys(self.store, count, start=start, tenant=tenant, kind=kind)

    def save(self, wanted: Sequence[ChunkKey]) -> int:
        """Save chunks with the content that `content` says; returns how many became visible."""
        return self.write(self.store.reserve(wanted)).commit()

    def write(self, reservation: Reservation) -> Reservation:
        for key, ref in zip(reservation.keys, reservation.slots, strict=True):
            if ref is not None:
                fill(self.store, key, ref)
        return reservation

    def intact(self, key: ChunkKey, ref: SlotRef) -> bool:
        """Whether the slot is sealed, verified, and holds the chunk's own content."""
        return self.store.arena.verify(ref) and bool((self.store.arena.memory(ref) == content(key)).all())

    def ready(self, wanted: Sequence[ChunkKey]) -> int:
        """How many leading chunks a lookup finds in the arena."""
        with self.store.lookup(wanted, owner="test") as lease:
            return lease.ready

    def fetched(self, wanted: Sequence[ChunkKey]) -> int:
        """How many leading chunks are there, and intact, after a fetch."""
        with self.store.lookup(wanted, owner="test") as lease:
            self.store.fetch(lease, seconds=10)
            self.jobs.run()
            assert lease.done
            for key, ref in zip(lease.keys, lease.slots(), strict=False):
                assert self.intact(key, ref)
            return lease.ready


class BenchNamespaces:
    """A model with one adapter, `tuned`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._adapters: dict[bytes, str] = {}

    def digest_of(self, tenant: str, quality: str, adapter: str) -> bytes:
        if adapter not in ("", "tuned"):
            raise ValueError(f"no adapter {adapter}")
        content = "content" if adapter else ""
        digest = self._store.open_namespace(
            Namespace(
                "m",
                "w",
                "r",
                "bfloat16",
                {},
                LAYOUT.fingerprint(),
                adapter=content,
                tenant=tenant,
                kind=quality,
            )
        )
        self._adapters[digest] = adapter
        return digest

    def adapter_of(self, namespace: bytes) -> str:
        return self._adapters.get(namespace, "")


def keys(
    store: Store, count: int, *, start: int = 0, tenant: str = "", kind: str = "exact"
) -> list[ChunkKey]:
    namespace = Namespace("m", "w", "r", "bfloat16", {}, LAYOUT.fingerprint(), tenant=tenant, kind=kind)
    tokens = list(range(start, start + count * LAYOUT.block_tokens))
    return chunk_keys(store.open_namespace(namespace), tokens, LAYOUT.block_tokens)


def content(key: ChunkKey) -> np.ndarray:
    return np.resize(np.frombuffer(key, dtype=np.uint8), CHUNK_BYTES)


def fill(store: Store, key: ChunkKey, ref: SlotRef) -> None:
    store.arena.memory(ref)[:] = content(key)
    store.arena.seal(ref)


def shared_tier(chunks: int = 64) -> SharedMemoryTier:
    return SharedMemoryTier(chunks * (CHUNK_BYTES + 40000), CHUNK_BYTES)


def plan(tier: object, **link: object) -> TierPlan:
    return TierPlan(tier, LinkSettings(**({"batch": 4} | link)))  # type: ignore[arg-type]
