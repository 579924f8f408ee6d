"""Adaptive streaming in the store: a tier that records what it is asked for, and takes the time it is told
to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cache import ladder as ladder_module
from cache.codecs import registry
from cache.codecs.levels import Level
from cache.frame import decode_head
from cache.keys import ChunkKey, Namespace, chunk_keys, namespace_of
from cache.ladder import Ahead, Ladder, Rung, Streamer, ladder_of
from cache.settings import FileSettings, LinkSettings, StoreSettings
from cache.store import Store
from cache.tiers.tier import Fault, Frame, Landing
from tests.unit.cache.stores import CHUNK_BYTES, LAYOUT, Bench, SharedMemoryTier, plan

ELEMENTS = CHUNK_BYTES // 2


class SlowServer(SharedMemoryTier):
    """Bounded by itself, as Valkey is; reading takes `seconds_per_byte` of the bench's clock."""

    name = "valkey"
    capacity = None

    def __init__(self) -> None:
        super().__init__(1 << 22, CHUNK_BYTES)
        self.bench: Bench | None = None
        self.asked: list[ChunkKey] = []
        self.sizes: dict[ChunkKey, int] = {}
        self.codecs: dict[ChunkKey, str] = {}
        self.seconds_per_byte = 0.0

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        for frame in frames:
            self.sizes[frame.key] = frame.nbytes
            self.codecs[frame.key] = decode_head(frame.head).codec
        return super().put(frames, deadline)

    def get(self, keys: Sequence[ChunkKey], landing: Landing, deadline: float) -> list[Fault | None]:
        self.asked += keys
        if self.bench is not None:
            self.bench.clock.now += self.seconds_per_byte * sum(self.sizes.get(key, 0) for key in keys)
        return super().get(keys, landing, deadline)


@pytest.fixture
def rungs(monkeypatch: pytest.MonkeyPatch) -> tuple[Rung, ...]:
    """Levels that need no tables: 8 and 2 bits."""
    made = (
        Rung("high", registry.make("int8"), 9.0, 0.001),
        Rung("small", registry.make("int2"), 3.0, 0.1),
    )
    monkeypatch.setattr("cache.namespaces.ladder_of", lambda namespace: Ladder(namespace.digest(), made))
    return made


class Case:
    """A server with six chunks of a lossy namespace, and a second store that has none of them in memory."""

    def __init__(self, rungs: tuple[Rung, ...], *, stream_seconds: float | None = 1.0) -> None:
        self.server = SlowServer()
        self.rungs = rungs
        self.link = {"batch": 2, "stream_seconds": stream_seconds}
        writer, self.keys = self.open()
        reservation = writer.store.reserve(self.keys)
        for ref in reservation.slots:
            assert ref is not None
            values = np.arange(ELEMENTS, dtype=np.float32) / ELEMENTS
            slot = writer.store.arena.memory(ref).view(np.uint16)
            slot[:] = (values.view(np.uint32) >> 16).astype(np.uint16)
            writer.store.arena.seal(ref)
        reservation.commit()
        writer.jobs.run()
        self.reader, _ = self.open()
        self.server.bench = self.reader
        self.server.asked.clear()

    def open(self) -> tuple[Bench, list[ChunkKey]]:
        bench = Bench(tiers=[plan(self.server, **self.link)])
        namespace = Namespace("m", "w", "r", "bfloat16", {}, LAYOUT.fingerprint(), kind="small")
        digest = bench.store.open_namespace(namespace, self.rungs[-1].codec)
        return bench, chunk_keys(digest, list(range(6 * LAYOUT.block_tokens)), LAYOUT.block_tokens)

    def fetch(self) -> int:
        with self.reader.store.lookup(self.keys, owner="test") as lease:
            self.reader.store.fetch(lease, seconds=1000)
            self.reader.jobs.run()
            assert lease.done
            for ref in lease.slots():
                assert self.reader.store.arena.verify(ref)
            return lease.ready

    def levels_asked(self) -> list[bool]:
        """Of each chunk that was read, whether at the better level."""
        own = namespace_of(self.keys[0])
        return [namespace_of(key) != own for key in self.server.asked]


def test_chunks_are_kept_at_every_level_under_keys_of_their_own(rungs: tuple[Rung, ...]) -> None:
    case = Case(rungs)
    own = {key: codec for key, codec in case.server.codecs.items() if key in case.keys}
    better = {key: codec for key, codec in case.server.codecs.items() if key not in case.keys}
    assert set(own.values()) == {rungs[1].codec.name}
    assert set(better.values()) == {rungs[0].codec.name}
    assert len(own) == len(better) == 6


def test_switched_off_there_is_one_level(rungs: tuple[Rung, ...]) -> None:
    case = Case(rungs, stream_seconds=None)
    assert set(case.server.codecs) == set(case.keys)
    assert case.fetch() == 6
    assert not any(case.levels_asked())


def test_with_time_left_the_better_level_comes(rungs: tuple[Rung, ...]) -> None:
    case = Case(rungs)
    assert case.fetch() == 6
    # The first batch measures the link at the level that was asked for.
    assert case.levels_asked()[:2] == [False, False]
    assert all(case.levels_asked()[2:])
    assert case.reader.store.streamed_levels() == {"valkey": {"small": 2, "high": 4}}


def test_without_it_the_level_that_was_asked_for(rungs: tuple[Rung, ...]) -> None:
    case = Case(rungs)
    case.server.seconds_per_byte = 1 / min(case.server.sizes.values())
    assert case.fetch() == 6
    assert not any(case.levels_asked())


def test_a_missing_better_copy_falls_back(rungs: tuple[Rung, ...]) -> None:
    case = Case(rungs)
    lost = [key for key in case.server.codecs if key not in case.keys][3]
    case.server.delete([lost], 1e9)
    assert case.fetch() == 6
    assert any(case.levels_asked())


def test_what_was_decoded_is_not_stored_as_something_better(rungs: tuple[Rung, ...]) -> None:
    case = Case(rungs)
    archive = SlowServer()
    archive.name = "s3"
    case.reader = Bench(
        tiers=[plan(case.server, **case.link), plan(archive, write="back", fill_on_hit=False, **case.link)]
    )
    namespace = Namespace("m", "w", "r", "bfloat16", {}, LAYOUT.fingerprint(), kind="small")
    case.reader.store.open_namespace(namespace, rungs[-1].codec)
    assert case.fetch() == 6
    case.reader.store.reserve(case.reader.keys(8, start=1000))
    case.reader.jobs.run()
    assert archive.codecs
    assert set(archive.codecs) <= set(case.keys)


def test_exact_chunks_have_one_level_whatever_the_setting(rungs: tuple[Rung, ...]) -> None:
    server = SlowServer()
    bench = Bench(tiers=[plan(server, stream_seconds=1.0)])
    keys = bench.keys(3)
    bench.save(keys)
    bench.jobs.run()
    assert set(server.codecs) == set(keys)
    assert set(server.codecs.values()) == {"raw"}


@pytest.mark.parametrize("by", ["keys", "namespace"])
def test_clearing_takes_the_better_copies_along(rungs: tuple[Rung, ...], by: str) -> None:
    case = Case(rungs)
    assert case.fetch() == 6
    store = case.reader.store
    if by == "keys":
        store.clear(keys=case.keys)
    else:
        store.clear(namespace=namespace_of(case.keys[0]))
    case.reader.jobs.run()
    assert not list(case.server.scan(1e9))


def test_copies_whose_chunk_the_server_dropped_are_purged_too(rungs: tuple[Rung, ...]) -> None:
    case = Case(rungs)
    case.server.delete(case.keys, 1e9)
    case.reader.store.clear(namespace=namespace_of(case.keys[0]))
    case.reader.jobs.run()
    assert not list(case.server.scan(1e9))


def test_a_bounded_tier_cannot_stream() -> None:
    with pytest.raises(ValueError, match="stream_seconds"):
        Bench(tiers=[plan(SharedMemoryTier(1 << 20, CHUNK_BYTES), stream_seconds=1.0)])


class TestLadderOf:
    figures = {"framed_bits_per_element": 1.0, "kl": 0.01}

    def levels(self, **measured: dict[str, float]) -> dict[str, Level]:
        names = {"exact": "lossless", "high": "int8", "balanced": "int4", "small": "int2"}
        return {
            name: Level(name, codec, {}, measured.get(name, self.figures))  # type: ignore[arg-type]
            for name, codec in names.items()
        }

    def names(self, kind: str) -> list[str] | None:
        found = ladder_of(Namespace("m", "0" * 32, "", "bfloat16", {}, bytes(16), kind=kind))
        return None if found is None else [rung.name for rung in found.rungs]

    def test_it_ends_at_what_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ladder_module, "levels_for", lambda weights: self.levels())
        assert self.names("small") == ["high", "balanced", "small"]
        assert self.names("balanced") == ["high", "balanced"]
        assert self.names("high") is None
        assert self.names("exact") is None
        assert self.names("something else") is None

    def test_what_nobody_measured_is_not_chosen_by(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ladder_module, "levels_for", lambda weights: self.levels(balanced={}))
        assert self.names("small") is None


def test_keys_of_levels_tenants_and_chunks_never_meet(rungs: tuple[Rung, ...]) -> None:
    ladders = [Ladder(digest, rungs) for digest in (b"a" * 16, b"b" * 16)]
    keys = {
        one.key(ChunkKey(one.namespace + bytes([chunk]) * 32), level)
        for one in ladders
        for chunk in range(4)
        for level in range(2)
    }
    assert len(keys) == 16
    assert ladders[0].key(ChunkKey(b"a" * 16 + b"c" * 32), 1) == b"a" * 16 + b"c" * 32


def test_the_time_used_up_makes_the_choice_smaller(rungs: tuple[Rung, ...]) -> None:
    streamer = Streamer({}, 10.0, 800)
    ladder = Ladder(b"n" * 16, rungs)
    assert streamer.choose(ladder, Ahead(0.0, 4, 4), 0.0) == 1
    streamer.observe(rungs[1], [500, 500], 1.0)
    assert streamer.chunks == {"small": 2}
    # 8 chunks of 900 bytes take 7.2 s, with caution 10.8 s; of 300 bytes 3.6 s.
    assert streamer.choose(ladder, Ahead(0.0, 4, 4), 0.0) == 1
    assert streamer.choose(ladder, Ahead(0.0, 4, 2), 0.0) == 1
    assert streamer.choose(ladder, Ahead(0.0, 4, 0), 0.0) == 0
    assert streamer.choose(ladder, Ahead(0.0, 4, 0), 5.0) == 1


def test_a_file_tier_says_no_when_the_store_opens(tmp_path: object) -> None:
    settings = StoreSettings(file=FileSettings(str(tmp_path), link=LinkSettings(stream_seconds=1.0)))
    with pytest.raises(ValueError, match="their own server bounds"):
        Store(LAYOUT, settings)
