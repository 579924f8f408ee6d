"""The store's verbs, with transfers run by hand."""

from __future__ import annotations

import pytest

from cache.codecs import registry
from cache.counters import MEMORY
from cache.keys import Namespace, namespace_of
from cache.lease import BorrowState
from cache.ledger import Event
from tests.unit.cache.stores import CHUNK_BYTES, LAYOUT, Bench, keys, plan, shared_tier


def test_a_saved_prefix_is_found_up_to_its_first_gap() -> None:
    bench = Bench()
    keys = bench.keys(6)
    assert bench.save(keys[:2]) == 2
    assert bench.save(keys[3:5]) == 2
    with bench.store.lookup(keys, owner="r") as lease:
        assert (lease.ready, lease.known, lease.sources) == (2, 2, [MEMORY] * 2)
        assert all(bench.intact(key, ref) for key, ref in zip(keys, lease.slots(), strict=False))
    assert lease.state is BorrowState.RELEASED
    bench.store.close()


def test_what_is_there_or_on_its_way_is_not_reserved_again() -> None:
    bench = Bench()
    keys = bench.keys(3)
    bench.save(keys[:1])
    first = bench.store.reserve(keys)
    second = bench.store.reserve(keys)
    assert [ref is None for ref in first.slots] == [True, False, False]
    assert second.slots == [None] * 3
    second.abort()
    assert bench.write(first).commit() == 2
    assert bench.ready(keys) == 3
    bench.store.close()


def test_an_unsealed_slot_does_not_become_visible() -> None:
    bench = Bench()
    keys = bench.keys(2)
    assert bench.store.reserve(keys).commit() == 0
    assert bench.ready(keys) == 0
    assert bench.store.stats().counters.unsealed == 2
    bench.store.close()


def test_a_chunk_cleared_while_it_is_saved_stays_cleared_and_leaks_nothing() -> None:
    bench = Bench()
    keys = bench.keys(2)
    reservation = bench.write(bench.store.reserve(keys))
    bench.store.clear(keys=keys)
    reservation.commit()
    assert bench.ready(keys) == 0
    assert bench.store.arena.used == 0
    bench.store.close()


def test_a_chunk_cleared_while_it_is_read_is_read_to_the_end() -> None:
    bench = Bench(4)
    keys = bench.keys(4)
    bench.save(keys)
    with bench.store.lookup(keys, owner="r") as lease:
        assert bench.store.clear() == 4
        assert bench.ready(keys) == 0
        assert bench.save(bench.keys(4, start=9000)) == 0
        assert all(bench.intact(key, ref) for key, ref in zip(keys, lease.slots(), strict=True))
    assert bench.save(bench.keys(4, start=9000)) == 4
    bench.store.close()


def test_eviction_takes_the_last_chunks_of_the_oldest_prompt() -> None:
    bench = Bench(6)
    old, new = bench.keys(4), bench.keys(3, start=5000)
    bench.save(old)
    bench.save(new)
    assert bench.ready(old) == 3
    assert bench.ready(new) == 3
    bench.store.close()


def test_pins_outlast_eviction_until_their_end() -> None:
    bench = Bench(4)
    keys = bench.keys(2)
    bench.save(keys)
    assert bench.store.pin(keys, "alice", 100.0) == 2
    assert bench.store.pin(keys, "bob", 50.0) == 2
    assert bench.save(bench.keys(4, start=5000)) == 2
    assert bench.ready(keys) == 2
    assert bench.store.unpin(keys, "alice") == 0
    bench.clock.now += 51
    assert bench.save(bench.keys(4, start=7000)) == 4
    assert bench.ready(keys) == 0
    assert bench.store.pin(keys, "alice", 1.0) == 0
    bench.store.close()


def test_a_tenant_with_a_quota_evicts_its_own() -> None:
    bench = Bench(8, tenants={"small": 2 * LAYOUT.block_bytes})
    other = bench.keys(4, tenant="large")
    bench.save(other)
    for start in (0, 1000, 2000):
        assert bench.save(bench.keys(3, start=start, tenant="small")) == 2
    assert bench.store.stats().tenants["small"] == 2 * LAYOUT.block_bytes
    assert bench.ready(other) == 4
    bench.store.close()


def test_tenants_share_the_arena_equally_when_both_press() -> None:
    bench = Bench(8)
    bench.save(bench.keys(8, tenant="a"))
    for start in (0, 1000, 2000):
        bench.save(bench.keys(4, start=start, tenant="b"))
    assert bench.store.stats().tenants == {"a": 4 * LAYOUT.block_bytes, "b": 4 * LAYOUT.block_bytes}
    bench.store.close()


def test_tenants_without_chunks_are_not_remembered() -> None:
    bench = Bench(4)
    for number in range(50):
        bench.save(bench.keys(2, tenant=f"salt:{number}"))
    room = bench.store._ledger.room
    assert len(room._policies) == len(dict(room.tenants())) <= 4
    assert len(dict(room.namespaces())) <= 4
    assert bench.ready(bench.keys(2, tenant="salt:49")) == 2
    bench.store.close()


def test_a_namespace_evicts_its_own_chunks_once_it_has_its_quota() -> None:
    quota = 3 * CHUNK_BYTES
    bench = Bench(12, namespaces={namespace_of(Bench().keys(1, tenant="a")[0]).hex(): quota})
    other = bench.keys(4, tenant="a", kind="small")
    assert bench.save(other) == 4
    first, second = bench.keys(3, tenant="a"), bench.keys(2, start=5000, tenant="a")
    assert bench.save(first) == 3
    assert bench.save(second) == 2
    assert bench.ready(second) == 2
    assert bench.ready(first) == 1
    assert bench.ready(other) == 4, "the same tenant's other namespace has no bound"
    assert bench.save(bench.keys(5, start=9000, tenant="a")) == 3
    assert dict(bench.store._ledger.room.namespaces())[namespace_of(first[0])] == quota
    assert bench.store.stats().counters.quota_refusals > 0
    bench.store.close()


def test_another_tenant_finds_nothing() -> None:
    bench = Bench()
    bench.save(bench.keys(3, tenant="a"))
    assert bench.ready(bench.keys(3, tenant="b")) == 0
    assert bench.ready(bench.keys(3)) == 0
    bench.store.close()


def test_chunks_expire() -> None:
    tier = shared_tier()
    bench = Bench(tiers=[plan(tier)], ttl_seconds=60.0)
    keys = bench.keys(3)
    bench.save(keys)
    bench.jobs.run()
    assert bench.ready(keys) == 3
    bench.clock.now += 61
    assert bench.fetched(keys) == 0
    bench.store.close()


def test_a_restarted_store_finds_what_was_written_through() -> None:
    tier = shared_tier()
    first = Bench(tiers=[plan(tier)])
    keys = first.keys(5)
    first.save(keys)
    first.jobs.run()
    first.store.close()
    second = Bench(tiers=[plan(tier)])
    second.jobs.run()
    with second.store.lookup(keys, owner="r") as lease:
        assert (lease.ready, lease.known) == (0, 5)
    assert second.fetched(keys) == 5
    assert second.ready(keys) == 5
    stats = second.store.stats().tiers["file"]
    assert (stats.counters.loads, stats.counters.hits, stats.chunks) == (5, 5, 5)
    second.store.close()


def test_a_probe_finds_what_another_worker_wrote_meanwhile() -> None:
    tier = shared_tier()
    a, b = Bench(tiers=[plan(tier)]), Bench(tiers=[plan(tier)])
    b.jobs.run()
    keys = a.keys(6)
    a.save(keys)
    a.jobs.run()
    with b.store.lookup(b.keys(6), owner="r") as lease:
        assert lease.known == 0
        b.store.fetch(lease, seconds=10, probe=False)
        assert lease.done
        assert lease.ready == 0
        b.store.fetch(lease, seconds=10)
        assert not lease.done
        b.jobs.run()
        assert lease.done
        assert (lease.ready, lease.sources) == (6, ["file"] * 6)
    a.store.close()
    b.store.close()


def test_a_tier_that_had_nothing_is_not_asked_again_at_once() -> None:
    bench = Bench(tiers=[plan(shared_tier())], miss_memory_seconds=5.0)
    bench.jobs.run()
    keys = bench.keys(3)
    assert bench.fetched(keys) == 0
    with bench.store.lookup(keys, owner="r") as lease:
        bench.store.fetch(lease, seconds=10)
        assert lease.done
        bench.clock.now += 6
        bench.store.fetch(lease, seconds=10)
        assert not lease.done
    bench.store.close()


def test_two_leases_share_one_load() -> None:
    tier = shared_tier()
    bench = Bench(tiers=[plan(tier)])
    keys = bench.keys(4)
    bench.save(keys)
    bench.jobs.run()
    for entry in list(bench.store._ledger.entries.values()):
        bench.store._ledger.drop(entry)
    leases = [bench.store.lookup(keys, owner=str(n)) for n in range(2)]
    for lease in leases:
        bench.store.fetch(lease, seconds=10)
    bench.jobs.run()
    assert [lease.ready for lease in leases] == [4, 4]
    assert bench.store.stats().tiers["file"].counters.loads == 4
    for lease in leases:
        lease.release()
    bench.store.close()


def test_a_fetch_that_takes_too_long_is_done_without_its_chunks_and_goes_on_for_later() -> None:
    tier = shared_tier()
    bench = Bench(tiers=[plan(tier)])
    keys = bench.keys(3)
    bench.save(keys)
    bench.jobs.run()
    for entry in list(bench.store._ledger.entries.values()):
        bench.store._ledger.drop(entry)
    lease = bench.store.lookup(keys, owner="r")
    bench.store.fetch(lease, seconds=5)
    assert not lease.done
    bench.clock.now += 6
    assert lease.done
    assert lease.ready == 0
    bench.jobs.run()
    assert lease.ready == 0
    lease.release()
    assert bench.store.stats().held_chunks == 0
    bench.store.close()


def test_write_back_writes_a_victim_before_it_goes() -> None:
    tier = shared_tier()
    bench = Bench(8, tiers=[plan(tier, write="back")])
    keys = bench.keys(6)
    bench.save(keys)
    bench.jobs.run()
    assert bench.store.stats().tiers["file"].chunks == 0
    for start in range(1000, 7000, 1000):
        bench.save(bench.keys(4, start=start))
        bench.jobs.run()
    assert bench.ready(keys) == 0
    # Each fetch may start the write-back that the next one's slots come from.
    assert max(bench.fetched(keys) for _ in range(4)) == 6
    bench.store.close()


def test_a_full_queue_drops_saves_and_counts_them() -> None:
    bench = Bench(tiers=[plan(shared_tier(), queue_chunks=3)])
    bench.save(bench.keys(5))
    stats = bench.store.stats().tiers["file"]
    assert (stats.queued, stats.counters.dropped) == (3, 2)
    bench.jobs.run()
    assert bench.store.stats().tiers["file"].chunks == 3
    bench.store.close()


def test_a_bounded_tier_evicts_and_forgets_no_bytes() -> None:
    tier = shared_tier(2)
    bench = Bench(8, tiers=[plan(tier)])
    for start in range(0, 20000, 1000):
        bench.save(bench.keys(4, start=start))
        bench.jobs.run()
    stats = bench.store.stats().tiers["file"]
    assert stats.counters.evictions > 0
    assert stats.used_bytes <= tier.capacity
    assert stats.chunks == len(list(tier.scan(0.0)))
    assert bench.fetched(bench.keys(4, start=19000)) == 4
    bench.store.close()


def test_move_and_recode_write_before_they_delete() -> None:
    fast, slow = shared_tier(), shared_tier()
    slow.name = "s3"  # type: ignore[misc]
    bench = Bench(tiers=[plan(fast), plan(slow, write="never")])
    keys = bench.keys(3)
    bench.save(keys)
    bench.jobs.run()
    operations: list[str] = []
    for tier in (fast, slow):
        for verb in ("put", "delete"):
            inner = getattr(tier, verb)

            def recorded(items, deadline, tier=tier, verb=verb, inner=inner):  # type: ignore[no-untyped-def]
                operations.append(f"{tier.name} {verb}")
                return inner(items, deadline)

            setattr(tier, verb, recorded)
    relocation = bench.store.relocation
    bench.jobs.start()
    assert relocation.move(keys, "file", "s3", seconds=10) == 3
    bench.jobs.settle()
    assert operations == ["s3 put", "file delete"]
    assert [set(info.tiers) for info in bench.store.inventory.chunks()] == [{MEMORY, "s3"}] * 3
    assert relocation.move(keys, MEMORY, "s3", seconds=10) == 3
    assert [set(info.tiers) for info in bench.store.inventory.chunks()] == [{"s3"}] * 3
    assert relocation.recode(keys, "s3", "raw", {}, seconds=10) == 3
    assert operations == ["s3 put", "file delete", "s3 put"]
    assert relocation.prefetch(keys, 10) == 3
    with pytest.raises(ValueError, match="there is no tier 'disk'; there are memory, file, s3"):
        relocation.move(keys, "disk", "s3", seconds=1)
    bench.jobs.stop()
    bench.store.close()


def test_a_namespace_is_purged_also_of_what_others_wrote() -> None:
    tier = shared_tier()
    writer, bench = Bench(tiers=[plan(tier)]), Bench(tiers=[plan(tier)])
    bench.jobs.run()
    writer.save(writer.keys(3, tenant="a"))
    writer.save(writer.keys(3, tenant="b"))
    writer.jobs.run()
    bench.store.clear(namespace=bench.keys(1, tenant="a")[0][:16])
    bench.jobs.run()
    assert [found.key for found in tier.scan(0.0)] == writer.keys(3, tenant="b")
    writer.store.close()
    bench.store.close()


def test_lossy_codecs_stay_out_of_exact_namespaces() -> None:
    lossy = next(name for name in registry.names() if not registry.make(name).lossless)
    with pytest.raises(ValueError, match=f"codec {lossy} is lossy"):
        Bench(tiers=[plan(shared_tier(), codec=lossy)])
    bench = Bench()
    exact = Namespace("m", "w", "r", "bfloat16", {}, LAYOUT.fingerprint())
    with pytest.raises(ValueError, match="needs? a namespace of another kind"):
        bench.store.open_namespace(exact, registry.make(lossy))
    with pytest.raises(ValueError, match="another KV layout"):
        bench.store.open_namespace(Namespace("m", "w", "r", "bfloat16", {}, bytes(16)))
    bench.store.close()


def test_events_tell_what_came_and_went() -> None:
    bench = Bench(2, tiers=[plan(shared_tier())])
    (key,) = bench.keys(1)
    bench.save([key])
    bench.jobs.run()
    assert bench.store.take_events() == [Event(True, key, MEMORY), Event(True, key, "file")]
    bench.store.clear(keys=[key])
    assert bench.store.take_events() == [Event(False, key, MEMORY), Event(False, key, "file")]
    bench.store.close()


def test_a_start_refills_memory_with_what_was_used_last() -> None:
    tier = shared_tier()
    first = Bench(tiers=[plan(tier)])
    for number in range(6):
        first.clock.now += 1
        first.save(first.keys(1, start=100 * number))
        first.jobs.run()
    other = keys(first.store, 1, start=7, tenant="somebody else")
    first.save(other)
    first.jobs.run()
    for number, used in enumerate((5, 1, 4, 2, 0, 3)):
        key = first.keys(1, start=100 * number)[0]
        tier._frames[key] = (tier._frames[key][0], float(used))
    again = Bench(8, tiers=[plan(tier)], refill=0.5)
    again.jobs.start()
    assert again.store.refill(namespace_of(again.keys(1)[0]), 60)
    again.jobs.stop()
    ready = [number for number in range(6) if again.ready(again.keys(1, start=100 * number))]
    assert ready == [0, 2, 3, 5]  # half of eight slots, the latest first
    assert not again.ready(other)
    for bench in (first, again):
        bench.store.close()


def test_without_files_or_the_wish_nothing_is_refilled() -> None:
    bench = Bench(tiers=[plan(shared_tier())])
    assert bench.store.refill(namespace_of(bench.keys(1)[0]), 0.0)
    bench.store.close()
