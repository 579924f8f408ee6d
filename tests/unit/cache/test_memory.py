"""Slabs, the arena, policies, pins, the breaker, the cost model: each by itself."""

from __future__ import annotations

import gc
import mmap
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import arena as arena_module
from cache.arena import Arena, Segment
from cache.breaker import Breaker
from cache.keys import ChunkKey
from cache.pins import Pins
from cache.policies.policy import NAMES, UnknownPolicy, make_policy
from cache.settings import ValkeySettings, parse_size, store_settings
from cache.slabs import Slabs
from cache.tiers.build import plan_tiers


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(1, 1000), st.booleans(), st.integers(0, 1000)), max_size=120))
def test_slots_never_overlap_and_all_come_back(steps: list[tuple[int, bool, int]]) -> None:
    slabs = Slabs(40_000, 1000, overhead=64)
    taken: dict[int, int] = {}
    for nbytes, give, pick in steps:
        if give and taken:
            start = sorted(taken)[pick % len(taken)]
            slabs.free(start)
            del taken[start]
            continue
        new = slabs.allocate(nbytes)
        if new is not None:
            assert 0 <= new <= slabs.capacity - nbytes - 64
            assert new % 64 == 0
            assert all(
                new + nbytes + 64 <= start or start + size + 64 <= new for start, size in taken.items()
            )
            taken[new] = nbytes
    for start in taken:
        slabs.free(start)
    assert slabs.used == 0
    assert sum(slabs.allocate(1000) is not None for _ in range(100)) == slabs.largest_slots


def test_smaller_frames_mean_more_of_them() -> None:
    slabs = Slabs(1_000_000, 10_000)
    assert sum(slabs.allocate(2400) is not None for _ in range(1000)) >= 4 * 100 * 0.9


def test_slabs_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="holds no chunk of 1000"):
        Slabs(500, 1000)
    slabs = Slabs(5000, 1000)
    with pytest.raises(ValueError, match="do not fit"):
        slabs.allocate(1001)
    with pytest.raises(ValueError, match="no slot that was given out"):
        slabs.free(0)


def test_a_stale_reference_is_noticed() -> None:
    arena = Arena(4096, 1000)
    ref = arena.allocate(1000)
    assert ref is not None
    assert arena.sealed(ref) is None
    arena.memory(ref)[:] = 7
    digest = arena.seal(ref)
    assert arena.verify(ref)
    assert arena.sealed(ref) == digest
    arena.memory(ref)[500] ^= 1
    assert not arena.verify(ref)
    arena.free(ref)
    again = arena.allocate(1000)
    assert again is not None
    assert again.offset == ref.offset
    assert not arena.current(ref)
    arena.seal(ref)  # a writer that comes too late
    assert arena.sealed(again) is None
    arena.close()


def test_another_process_maps_the_arena_by_name_and_nothing_stays_after_kill_9() -> None:
    program = textwrap.dedent("""
        import os, sys
        from cache.arena import Arena
        arena = Arena(1 << 20, 4096, prefault=True)
        ref = arena.allocate(4096)
        print(arena.name, *ref, flush=True)
        sys.stdin.readline()
        print(arena.verify(ref), int(arena.memory(ref)[5]), flush=True)
        sys.stdin.readline()
    """)
    before = set(os.listdir("/dev/shm"))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        name, offset, nbytes, generation = owner.stdout.readline().split()
        from cache.arena import SlotRef

        ref = SlotRef(int(offset), int(nbytes), int(generation))
        segment = Segment.attach(name)
        segment.memory(ref)[:] = 42
        segment.seal(ref)
        owner.stdin.write("\n")
        assert owner.stdout.readline().split() == ["True", "42"]
        owner.kill()
        owner.wait()
    assert segment.verify(ref)
    segment.close()
    gc.collect()
    assert {entry for entry in os.listdir("/dev/shm") if "sluice" in entry} <= before
    with pytest.raises(FileNotFoundError):
        Segment.attach(name)


def test_the_process_that_owns_an_arena_maps_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    maps: list[int] = []
    make = arena_module._map

    def counted(fd: int, size: int, prefault: bool) -> mmap.mmap:
        maps.append(size)
        return make(fd, size, prefault)

    monkeypatch.setattr(arena_module, "_map", counted)
    arena = Arena(1 << 20, 4096)
    ref = arena.allocate(4096)
    assert ref is not None
    shared = Segment.attach(arena.name)
    shared.memory(ref)[:] = 7
    shared.seal(ref)
    assert arena.verify(ref)
    assert len(maps) == 1
    arena.close()  # whoever still copies keeps the memory
    assert int(shared.memory(ref)[11]) == 7
    shared.close()
    with pytest.raises(FileNotFoundError):
        Segment.attach(arena.name)


def test_many_slots_at_once_are_those_that_one_by_one_would_give() -> None:
    one, many = (Arena(1 << 20, 4096) for _ in range(2))
    singles = [ref for _ in range(400) if (ref := one.allocate(4096)) is not None]
    whole = many.allocate_whole(150) + many.allocate_whole(250)
    assert [ref.offset for ref in whole] == [ref.offset for ref in singles]
    assert one.used == many.used
    assert many.allocate_whole(1) == []
    assert len({ref.generation for ref in whole}) == len(whole)
    for ref in whole:
        many.free(ref)
    assert many.used == 0
    for arena in (one, many):
        arena.close()


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["insert", "touch", "remove", "evict"]), st.integers(0, 12)), max_size=150
    ),
    kept=st.sets(st.integers(0, 12), max_size=4),
)
def test_policies_hold_what_was_inserted_and_evict_nothing_protected(
    name: str, steps: list[tuple[str, int]], kept: set[int]
) -> None:
    policy = make_policy(name, 10)
    model: set[bytes] = set()
    for step, number in steps:
        key = bytes([number])
        if step == "evict":
            victim = policy.evict(lambda key: key[0] in kept)
            evictable = {key for key in model if key[0] not in kept}
            assert (victim is None) == (not evictable)
            assert victim is None or victim in evictable
            model.discard(victim or b"")
        elif step == "insert":
            policy.insert(key, 1)
            model.add(key)
        elif step == "touch":
            policy.touch(key)
        else:
            policy.remove(key)
            model.discard(key)
        assert len(policy) == len(model)
        assert all(key in policy for key in model)


def test_s3fifo_lets_a_scan_pass_by() -> None:
    policies = {name: make_policy(name, 100) for name in NAMES}
    for policy in policies.values():
        for _ in range(2):
            for number in range(50):
                policy.insert(b"hot%d" % number, 1)
        for number in range(500):
            policy.insert(b"scan%d" % number, 1)
            while len(policy) > 100:
                policy.evict(lambda key: False)
    hot = {name: sum(b"hot%d" % n in policy for n in range(50)) for name, policy in policies.items()}
    assert hot == {"lru": 0, "s3fifo": 50}
    with pytest.raises(UnknownPolicy, match="there are lru, s3fifo"):
        make_policy("magic", 1)


def test_a_pin_ends_with_its_last_owner() -> None:
    pins, key = Pins(), ChunkKey(b"k")
    pins.pin(key, "a", 10.0)
    pins.pin(key, "b", 20.0)
    pins.pin(key, "a", 30.0)
    assert list(pins.expire(10.0)) == []
    assert list(pins.expire(25.0)) == []
    assert pins.owners(key) == {"a": 30.0}
    assert not pins.unpin(key, "b")
    assert list(pins.expire(30.0)) == [key]
    assert len(pins) == 0


def test_the_breaker_opens_tries_once_and_waits_longer() -> None:
    breaker = Breaker(2, 5.0)
    breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(1.0)
    assert not breaker.allows(5.9)
    assert breaker.is_open(5.9)
    assert breaker.allows(6.0)
    assert not breaker.allows(6.1)
    breaker.failed(6.2)
    assert not breaker.allows(16.1)
    assert breaker.allows(16.2)
    breaker.succeeded()
    assert breaker.allows(16.3)
    breaker.failed(17.0)
    assert breaker.allows(17.0)


def test_settings_come_from_mappings_and_say_what_is_wrong() -> None:
    made = store_settings(
        {"memory": {"bytes": "1.5GiB"}, "file": {"path": "/kv", "bytes": "10G"}, "tenants": {"a": "5MiB"}}
    )
    assert (made.memory.bytes, made.tenants["a"]) == (3 << 29, 5 << 20)
    assert made.file is not None
    assert made.file.bytes == 10 << 30
    with pytest.raises(ValueError, match=r"unknown field `byte`.*memory"):
        store_settings({"memory": {"byte": 1}})
    with pytest.raises(ValueError, match="not a size: 'much'"):
        parse_size("much")
    secret = ValkeySettings("rediss://user:hunter2@host:6379/0")
    assert "hunter2" not in repr(secret)
    assert "host:6379" in repr(secret)


def test_a_missing_client_library_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("redis", "cache.tiers.valkey"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"kv\.valkey needs .*pip install 'sluice\[kv\]'"):
        plan_tiers(store_settings({"valkey": {"url": "redis://127.0.0.1:1/0"}}), 4096)


def test_memory_is_made_ahead_of_its_use_and_not_before() -> None:
    arena = Arena(256 << 20, 1 << 20)
    made: list[tuple[int, int]] = []
    arena.populate = lambda first=0, last=None: made.append((first, last))  # type: ignore[method-assign,assignment]
    others = set(threading.enumerate())
    for _ in range(100):
        assert arena.allocate_whole(1)
    for thread in set(threading.enumerate()) - others:
        thread.join()
    made.sort()
    assert made[0][0] == 0
    assert [first for first, _ in made[1:]] == [last for _, last in made[:-1]], "each page once"
    ahead, used = arena_module._AHEAD_BYTES, 100 << 20
    assert used + ahead <= made[-1][1] <= used + 3 * ahead
    arena.close()
    whole = Arena(80 << 20, 1 << 20, prefault=True)
    whole.populate = arena.populate  # type: ignore[method-assign]
    made.clear()
    whole.allocate_whole(80)
    assert not made
    whole.close()


def test_made_pages_are_those_of_the_range() -> None:
    arena = Arena(8 << 20, 1 << 20)
    arena.populate((1 << 20) + 5, 3 << 20)
    made = os.fstat(arena._fd).st_blocks * 512
    if not made:
        pytest.skip("the kernel does not make pages on request (before Linux 5.14)")
    assert made == 2 << 20
    arena.populate(2 << 20)
    assert os.fstat(arena._fd).st_blocks * 512 == -(-len(arena) // mmap.PAGESIZE) * mmap.PAGESIZE - (1 << 20)
    arena.close()
