from __future__ import annotations

import gc
import os
import tracemalloc
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.fingerprint import Fingerprint, fingerprint
from gateway.routing.index import ENTRY_BYTES, CacheMirror
from gateway.routing.tiers import DEVICE, HOST


def prompt(text: str, size: int) -> Fingerprint:
    return fingerprint("m", b"", (text.encode() * (size // len(text) + 1))[:size])


def send(cache: CacheMirror, request: Fingerprint) -> int:
    depth = cache.depth(request)
    cache.touch(request, depth)
    return request.covered(depth)


def test_a_conversation_is_found_as_far_as_it_went() -> None:
    cache = CacheMirror(1 << 20, 10_000)
    first = prompt("a", 10_000)
    assert send(cache, first) == 0
    assert send(cache, prompt("a", 14_000)) == 9_984
    assert send(cache, prompt("b", 10_000)) == 0


def test_the_tail_of_the_least_recently_used_prompt_goes_first() -> None:
    cache = CacheMirror(20_000, 10_000)
    old, young = prompt("a", 10_240), prompt("b", 10_240)
    send(cache, old)
    send(cache, young)
    assert young.covered(cache.depth(young)) == 10_240
    assert 9_000 < old.covered(cache.depth(old)) < 10_240


def test_using_a_prefix_keeps_it() -> None:
    cache = CacheMirror(20_000, 10_000)
    system = prompt("s", 2_048)
    send(cache, system)
    for n in range(50):
        send(cache, prompt(f"user {n}", 8_192))
        assert send(cache, system) == 2_048


def test_nothing_is_larger_than_the_cache() -> None:
    cache = CacheMirror(20_000, 10_000)
    large = prompt("x", 100_000)
    send(cache, large)
    assert 19_000 < large.covered(cache.depth(large)) <= 20_000


def test_clear_forgets_everything() -> None:
    cache = CacheMirror(20_000, 10_000)
    send(cache, prompt("x", 5_000))
    cache.clear()
    assert (cache.depth(prompt("x", 5_000)), len(cache), cache.used) == (0, 0, 0)


def test_what_a_failed_request_added_is_taken_back() -> None:
    cache = CacheMirror(1 << 20, 10_000)
    short, long = prompt("a", 5_120), prompt("a", 9_216)
    send(cache, short)
    depth = cache.depth(long)
    cache.touch(long, depth)
    cache.forget(long, depth)
    assert long.covered(cache.depth(long)) == 5_120
    assert cache.used == 5_120


def test_a_cache_that_is_smaller_than_thought_is_learned() -> None:
    """The truth is an LRU of 100 kB; the mirror starts at 400 kB and hears of every hit and miss."""
    assert 60_000 < learned(CacheMirror(400_000, 100_000), truth=100_000) < 160_000


def test_a_cache_that_is_larger_than_thought_is_learned() -> None:
    assert 65_000 < learned(CacheMirror(20_000, 100_000), truth=100_000) < 160_000


def learned(cache: CacheMirror, truth: int) -> int:
    engine = CacheMirror(truth, 100_000)
    engine.know_capacity(truth)
    random = Random(1)
    for _ in range(3_000):
        request = prompt(f"user {int(random.paretovariate(0.5)) % 200}", 4_096)
        predicted = cache.depth(request)
        possible = cache.possible_depth(request, predicted)
        actual = engine.depth(request)
        cache.observe_hit(request.covered(predicted), request.covered(possible), request.covered(actual))
        cache.touch(request, predicted)
        engine.touch(request, actual)
    return cache.capacity


def test_a_known_capacity_gives_way_to_evidence_but_never_by_more_than_half() -> None:
    cache = CacheMirror(20_000, 100)
    cache.know_capacity(50_000)
    for _ in range(100):
        cache.observe_hit(40_000, 40_000, 0)
    assert cache.capacity == 25_000
    for _ in range(500):
        cache.observe_hit(20_000, 20_000, 20_000)
    assert cache.capacity == 50_000


AFTERWARDS = st.sampled_from(["", "failed", "gone", "offloaded", "back"])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12_000), AFTERWARDS), max_size=60))
def test_bounds_hold_and_bytes_add_up(steps: list[tuple[int, int, str]]) -> None:
    """Whatever requests and the engine's own word do to the mirror, in any order."""
    cache = CacheMirror(16_384, 100)
    for which, size, then in steps:
        request = prompt("abcdef"[which], size)
        depth = cache.depth(request)
        cache.touch(request, depth)
        if then == "failed":
            cache.forget(request, depth)
        elif then and request.hashes:
            tiers = {"gone": 0, "offloaded": HOST, "back": DEVICE}[then]
            cache.correct(request.hashes[size % len(request.hashes)], 256, tiers)
        assert len(cache) <= 100
        assert 0 <= cache.used <= 16_384 + 256
        if not any(step[2] in ("gone", "offloaded", "back") for step in steps):
            assert request.covered(cache.depth(request)) <= cache.used


def test_memory_of_a_full_index_is_within_its_bound() -> None:
    """A fast replay of distinct prompts, far more than fit."""
    entries = 40_000
    cache = CacheMirror(1 << 40, entries)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(1_000):
            send(cache, fingerprint("m", b"", os.urandom(16_384)))
        size, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) <= entries
    assert size <= entries * ENTRY_BYTES


def test_a_large_mirror_is_freed_step_by_step() -> None:
    cache = CacheMirror(1 << 40, 100_000)
    for n in range(500):
        send(cache, prompt(f"user {n:03d}", 4_096))
    cache.clear()
    assert len(cache) == 0
    steps = 0
    while cache.shed():
        steps += 1
    assert steps == 8_000 // 1_024 - 1 + (8_000 % 1_024 > 0)


def test_a_lowered_bound_is_reached_over_a_few_requests() -> None:
    cache = CacheMirror(1 << 40, 100_000)
    for n in range(500):
        send(cache, prompt(f"user {n:03d}", 4_096))
    cache.max_entries = 1_000
    sizes = []
    for n in range(12):
        send(cache, prompt(f"late {n:03d}", 4_096))
        sizes.append(len(cache))
    assert sizes[0] > 6_000
    assert sizes[-1] <= 1_000
