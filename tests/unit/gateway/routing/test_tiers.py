"""Blocks in tiers that are loaded from: what they save, and for whom."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine_adapter.api import WorkerInfo
from gateway.routing.assignment import RouteRequest
from gateway.routing.estimate import PRIOR_PRICES, LoadPrices
from gateway.routing.fleet import Fleet
from gateway.routing.kv_source import EventSource
from gateway.routing.kv_wire import BlockRemoved, decode_batch
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings
from gateway.routing.tiers import DEVICE, FILE, HOST, OBJECT, VALKEY, SharedTiers, fastest, tier_of

BLOCK, SIZE = 16, 2_048
CHAIN = list(range(1, 33))
"""The engine's blocks of a prompt of SIZE bytes, four to a token."""


def stored(medium: str, hashes: list[int] = CHAIN) -> dict[str, object]:
    parent = None if hashes[0] == 1 else hashes[0] - 1
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "block_size": BLOCK,
        "medium": medium,
    }


def removed(medium: str, hashes: list[int] = CHAIN) -> dict[str, object]:
    return {"type": "BlockRemoved", "block_hashes": hashes, "medium": medium}


def ask(text: str) -> RouteRequest:
    return RouteRequest("m", b"", (text.encode() * (SIZE // len(text) + 1))[:SIZE])


class Machines:
    """Workers a and b on one machine, c on another, with the KV layer, and d without; time stands still."""

    def __init__(self, **settings: Any) -> None:
        self.fleet = Fleet()
        self.infos = [
            WorkerInfo("a", "http://one:1", kv_events="tcp://one:1"),
            WorkerInfo("b", "http://one:2", kv_events="tcp://one:2"),
            WorkerInfo("c", "http://two:1", kv_events="tcp://two:1"),
            WorkerInfo("d", "http://two:2"),
        ]
        self.fleet.update(self.infos)
        for worker in self.fleet:
            worker.models, worker.health = ("m",), "ready"
        self.router = Router(self.fleet, RoutingSettings(bytes_per_token=4.0, **settings))
        self.sources: dict[str, EventSource] = {}
        for state in self.router.states():
            if state.worker.kv_events is not None:
                source = self.sources[state.worker.id] = EventSource(state, state.worker.kv_events, 10_000)
                source.caught_up()
        self._numbers = dict.fromkeys(self.sources, 0)

    def publish(self, worker: str, *events: dict[str, object], now: float = 0.0) -> None:
        source = self.sources[worker]
        source.live(self._numbers[worker], msgspec.msgpack.encode([1.0, list(events), 0]))
        self._numbers[worker] += 1
        for part in source.apply(msgspec.msgpack.encode([1.0, list(events), 0])):
            source.apply_slice(part, now)

    def serve(self, worker: str, request: RouteRequest, *events: dict[str, object]) -> None:
        """The worker prefills the request, during which it publishes `events`."""
        routed = self.router.assign(request, 0.0, frozenset("abcd") - {worker})
        self.publish(worker, *events, now=0.1)
        routed.first_byte(0.1)
        routed.finish(0.2, "ok", SIZE // 4, 0, 10)
        self.sources[worker].look_again(1.0)
        self.sources[worker].look_again(10.0)

    def loads(self, request: RouteRequest) -> dict[str, int]:
        """Bytes of the request that each worker would load, where that is not none."""
        found = {}
        for worker in self.fleet:
            routed = self.router.assign(request, 1000.0, frozenset("abcd") - {worker.id})
            if routed._work.loaded:
                found[worker.id] = routed._work.loaded
            routed.finish(1000.0, "aborted")
        return found


@pytest.mark.parametrize(
    ("medium", "settings", "readers"),
    [
        ("memory", {}, "a"),
        ("packed", {}, "a"),
        ("CPU", {}, "a"),
        ("file", {}, "ab"),
        ("file", {"file_tier": "fleet"}, "abc"),
        ("valkey", {}, "abc"),
        ("s3", {}, "abc"),
    ],
)
def test_who_can_load_what_one_worker_stored(medium: str, settings: dict[str, Any], readers: str) -> None:
    machines = Machines(**settings)
    machines.serve("a", ask("x"), stored("GPU"), stored(medium))
    machines.publish("a", removed("GPU"))
    assert machines.loads(ask("x")) == dict.fromkeys(readers, SIZE)
    assert machines.loads(ask("y")) == {}
    reason = machines.router.assign(ask("x"), 2000.0, frozenset("bcd")).reason
    assert f":hit=0/{SIZE}B,load={SIZE}B,est=" in reason
    machines.publish("a", removed(medium))
    assert machines.loads(ask("x")) == {}


def test_a_prompt_that_is_found_after_its_blocks_were_stored_counts_too() -> None:
    """A store may be written before the request's blocks are known to be its."""
    machines = Machines()
    machines.publish("a", stored("valkey"))
    machines.serve("a", ask("x"), stored("GPU"))
    assert set(machines.loads(ask("x"))) == {"b", "c"}, "a has it on its device"


def test_what_is_stored_partly_is_loaded_partly() -> None:
    machines = Machines()
    machines.serve("a", ask("x"), stored("GPU"), stored("s3", CHAIN[:16]))
    assert machines.loads(ask("x")) == {"b": SIZE // 2, "c": SIZE // 2}


def test_a_shared_store_outlives_who_wrote_it() -> None:
    machines = Machines()
    machines.serve("a", ask("x"), stored("GPU"), stored("valkey"), stored("memory"))
    machines.publish("a", {"type": "AllBlocksCleared"})
    assert set(machines.loads(ask("x"))) == {"a", "b", "c"}
    machines.fleet.update(
        [WorkerInfo("a", "http://one:1", generation=1, kv_events="tcp://one:1"), *machines.infos[1:]]
    )
    assert set(machines.loads(ask("x"))) == {"a", "b", "c"}
    machines.fleet.update(machines.infos[1:])
    assert set(machines.loads(ask("x"))) == {"b", "c"}
    machines.fleet.update([*machines.infos[1:], WorkerInfo("e", "http://one:9", kv_events="tcp://one:9")])
    machines.fleet.workers["e"].models, machines.fleet.workers["e"].health = ("m",), "ready"
    routed = machines.router.assign(ask("x"), 1000.0, frozenset("bcd"))
    assert (routed.worker.id, routed._work.loaded) == ("e", SIZE), "a worker that joins finds it too"


def test_a_loaded_prefix_is_cheaper_than_none_and_dearer_than_a_cached_one() -> None:
    machines = Machines(policy="ttft")
    machines.serve("a", ask("x"), stored("GPU"), stored("valkey"))
    cached, loaded, unknown = (
        machines.router.assign(ask("x"), 1000.0, frozenset("abcd") - {worker}).estimate for worker in "abd"
    )
    assert cached < loaded < unknown


def test_a_request_goes_to_where_it_is_loaded_rather_than_computed() -> None:
    machines = Machines()
    machines.serve("a", ask("x"), stored("GPU"), stored("s3"))
    machines.publish("a", removed("GPU"))
    chosen = {machines.router.assign(ask("x"), 1000.0 + n).worker.id for n in range(3)}
    assert "d" not in chosen


def test_what_the_engine_did_not_find_there_is_forgotten() -> None:
    machines = Machines()
    machines.serve("a", ask("x"), stored("GPU"), stored("valkey"))
    warm = machines.router.assign(ask("x"), 900.0, frozenset("bcd"))
    warm.finish(900.1, "ok", SIZE // 4, SIZE // 4, 10)
    machines.publish("a", removed("GPU"))
    routed = machines.router.assign(ask("x"), 1000.0, frozenset("bcd"))
    assert routed._work.loaded == SIZE
    routed.first_byte(1000.5)
    routed.finish(1001.0, "ok", SIZE // 4, 0, 10)
    assert machines.loads(ask("x")) == {}


def test_prices_are_learned_per_tier_and_passed_on_to_workers_without_any() -> None:
    everybody = LoadPrices()
    one, other = LoadPrices(everybody), LoadPrices(everybody)
    for _ in range(50):
        one.observe(VALKEY, 0.8)
    assert one.of(VALKEY) == pytest.approx(0.8, abs=0.01)
    assert other.of(VALKEY) == pytest.approx(0.8, abs=0.01)
    assert other.of(OBJECT) == PRIOR_PRICES[OBJECT]
    other.observe(VALKEY, 0.2)
    assert other.of(VALKEY) < one.of(VALKEY)
    assert one.of(HOST | VALKEY) == PRIOR_PRICES[HOST], "it is loaded from the fastest"
    assert set(one.learned()) == {VALKEY}


def test_a_load_that_took_as_long_as_computing_teaches_its_price() -> None:
    machines = Machines()
    for number in range(30):
        request = ask(f"warm {number}")
        routed = machines.router.assign(request, 10.0 * number, frozenset("bcd"))
        routed.first_byte(10.0 * number + 1.0)
        routed.finish(10.0 * number + 1.1, "ok", SIZE // 4, 0, 10)
    state = machines.router.state("a")
    assert state is not None
    before = state.load_prices.of(VALKEY)
    machines.serve("b", ask("x"), stored("GPU"), stored("valkey"))
    for number in range(5):
        routed = machines.router.assign(ask("x"), 1000.0 + 10 * number, frozenset("bcd"))
        assert routed._work.loaded == SIZE
        routed.first_byte(1000.9 + 10 * number)
        routed.finish(1001.0 + 10 * number, "aborted")
        state.cache.clear()
    assert state.load_prices.of(VALKEY) > before + 0.3


def test_media_have_names() -> None:
    names = {"GPU": DEVICE, None: DEVICE, "CPU": HOST, "memory": HOST, "file": FILE, "Other": FILE}
    assert {name: tier_of(name) for name in names} == names
    assert (tier_of("valkey"), tier_of("S3"), tier_of("STORAGE")) == (VALKEY, OBJECT, FILE)
    assert tier_of("STORAGE", "REMOTE") == OBJECT
    assert tier_of("GPU", "REMOTE") == DEVICE
    assert fastest(OBJECT | FILE) == FILE
    batch = decode_batch(msgspec.msgpack.encode([1.0, [{**removed("STORAGE"), "locality": "REMOTE"}], 0]))
    (event,) = batch.events
    assert isinstance(event, BlockRemoved)
    assert event.locality == "REMOTE"


def test_a_store_is_bounded_and_the_oldest_goes_first() -> None:
    tiers = SharedTiers(VALKEY | OBJECT, 3)
    for key in (1, 2, 3, 1, 4):
        tiers.add(key, VALKEY)
    assert [key for key in range(5) if tiers.get(key)] == [1, 3, 4]
    tiers.add(1, OBJECT)
    tiers.remove(1, VALKEY)
    assert tiers.get(1) == OBJECT
    tiers.max_entries = 1
    tiers.add(1, VALKEY)
    assert len(tiers) == 1


def test_shared_entries_are_within_the_bound_of_the_index() -> None:
    """An eighth is for the store of all and the files of two machines, the rest for four workers."""
    machines = Machines(index_bytes=208 * 48)
    caches = [state.cache for state in machines.router.states()]
    sets = {shared: None for cache in caches for shared in cache.shared}
    assert [bounded.max_entries for bounded in (*caches, *sets)] == [10] * 4 + [2] * 3
