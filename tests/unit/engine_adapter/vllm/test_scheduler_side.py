"""Both halves of the connector over a real store, step by step as vLLM would drive them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from tests.unit.engine_adapter.vllm.engines import BLOCK, Harness, request


@pytest.fixture
def engine() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    stats = harness.store.stats()
    assert (stats.leases, stats.reservations, stats.held_chunks) == (0, 0, 0)
    harness.close()


def tokens(count: int, seed: int = 0) -> list[int]:
    return [seed * 1000 + number for number in range(count)]


def test_a_prefix_is_loaded_bit_for_bit_and_the_last_token_computed(engine: Harness) -> None:
    first, second = request("a", tokens(12)), request("b", tokens(12))
    assert engine.prefill(first) == 0
    computed = [engine.content(first, block).copy() for block in range(3)]
    engine.finish(first)
    engine.pages[:] = 0
    assert engine.prefill(second) == 8
    assert all(np.array_equal(engine.content(second, block), computed[block]) for block in range(3))
    assert engine.finish(second) == {"engine": 0, "memory": 8, "computed": 4}


def test_the_store_goes_on_where_the_engine_ends(engine: Harness) -> None:
    first, second = request("a", tokens(13)), request("b", tokens(13))
    engine.prefill(first)
    engine.finish(first)
    assert engine.prefill(second, local=8) == 4
    assert engine.finish(second) == {"engine": 8, "memory": 4, "computed": 1}


def test_a_prompt_in_pieces_is_saved_as_its_chunks_fill_up(engine: Harness) -> None:
    asked = request("a", tokens(11))
    engine.admit(asked)
    for piece, saved in ((3, 0), (3, 1), (5, 2)):
        engine.step({"a": (asked, piece)})
        assert engine.store.stats().tiers["memory"].chunks == saved
    engine.finish(asked)


def test_decoded_tokens_are_saved_only_when_asked_and_drafts_never() -> None:
    for wanted, chunks in ((False, 1), (True, 2)):
        harness = Harness(save_decoded=wanted)
        asked = request("a", tokens(6))
        harness.prefill(asked)
        for token in range(5):
            asked.all_token_ids.append(900 + token)
            asked.num_tokens += 1
            harness.step({"a": (asked, 3)}, drafts=2)
            asked.num_computed_tokens -= 2
        harness.finish(asked)
        assert harness.store.stats().tiers["memory"].chunks == chunks
        harness.close()


def test_chunks_of_several_blocks_may_be_entered_in_their_middle() -> None:
    harness = Harness(chunk_blocks=3)
    first, second, third = (request(name, tokens(25)) for name in "abc")
    harness.prefill(first)
    computed = [harness.content(first, block).copy() for block in range(6)]
    harness.finish(first)
    harness.pages[:] = 0
    assert harness.prefill(second, local=4 * BLOCK) == 2 * BLOCK
    assert all(np.array_equal(harness.content(second, block), computed[block]) for block in (4, 5))
    harness.finish(second)
    whole = request("d", tokens(24))
    assert harness.prefill(whole) == 5 * BLOCK
    harness.finish(whole)
    assert harness.prefill(third) == 6 * BLOCK
    harness.finish(third)
    harness.close()


def test_a_damaged_slot_ends_the_match_and_is_saved_again(engine: Harness) -> None:
    first, second, third = (request(name, tokens(17)) for name in "abc")
    engine.prefill(first)
    engine.finish(first)
    slots = [entry.slot for entry in engine.store._ledger.entries.values()]
    assert slots[2] is not None
    engine.store.arena.memory(slots[2])[5] ^= 1
    assert engine.prefill(second) == 2 * BLOCK
    assert engine.scheduler.totals.damaged_slots == 1
    engine.finish(second)
    assert engine.store.stats().tiers["memory"].counters.faults == {"corrupt": 1}
    assert engine.prefill(third) == 4 * BLOCK
    assert all(
        np.array_equal(engine.content(third, block), engine.content(first, block)) for block in range(4)
    ), "what was computed again is what is read now"
    engine.finish(third)


def test_a_slot_lost_after_the_promise_fails_the_load_and_everything_on_top_of_it(engine: Harness) -> None:
    first, second = request("a", tokens(17)), request("b", tokens(17) + tokens(8, seed=7))
    engine.prefill(first)
    engine.finish(first)
    before = engine.store.stats().tiers["memory"].chunks
    external = engine.admit(second)
    assert external == 4 * BLOCK
    tracked = engine.scheduler._tracked["b"]
    stale = engine.scheduler._allocated[0][1][1].slot._replace(generation=1)
    transfers = engine.scheduler._allocated[0][1]
    transfers[1] = type(transfers[1])(stale, transfers[1].blocks, transfers[1].first)
    failed = engine.step({"b": (second, second.num_tokens - second.num_computed_tokens)})
    table = engine.tables["b"]
    assert failed == {table[1]}
    assert engine.evicted == set(table[1:])
    assert engine.store.stats().tiers["memory"].chunks == before
    assert tracked.sources == {"engine": 0, "memory": BLOCK, "computed": 25 - BLOCK}
    # vLLM computes again from the first bad block on; then it may be saved.
    second.num_computed_tokens = BLOCK
    engine.step({"b": (second, second.num_tokens - BLOCK)})
    engine.finish(second)
    assert engine.store.stats().tiers["memory"].chunks == 6


def test_an_abort_before_the_first_step_gives_everything_back(engine: Harness) -> None:
    first, second = request("a", tokens(9)), request("b", tokens(9))
    engine.prefill(first)
    engine.finish(first)
    engine.scheduler.arrived(second)
    assert engine.scheduler.match(second, 0) == 8
    assert engine.store.stats().leases == 1
    assert engine.finish(second) == {}


def test_a_preempted_request_is_matched_again(engine: Harness) -> None:
    asked = request("a", tokens(9))
    engine.prefill(asked)
    asked.num_computed_tokens = 0
    asked.all_token_ids.append(99)
    asked.num_tokens += 1
    assert engine.admit(asked) == 8
    engine.step({"a": (asked, 2)})
    assert engine.finish(asked) == {"engine": 0, "computed": 9}


@pytest.mark.parametrize(
    "other",
    [
        request("b", tokens(9), salt="sluice1:1:t:exact"),
        request("b", tokens(9), salt="sluice1:0::lossy:8"),
        request("b", tokens(9), salt="somebody's own"),
        request(
            "b",
            tokens(9),
            images=[SimpleNamespace(identifier="x", mm_position=SimpleNamespace(offset=1, length=2))],
        ),
        request("b", [1, *tokens(9)[1:]]),
    ],
    ids=["tenant", "quality", "salt", "image", "first token"],
)
def test_what_differs_shares_nothing(engine: Harness, other: SimpleNamespace) -> None:
    first = request("a", tokens(9))
    engine.prefill(first)
    engine.finish(first)
    assert engine.prefill(other) == 0
    engine.finish(other)


def test_requests_whose_kv_tokens_do_not_decide_are_left_alone(engine: Harness) -> None:
    for number, (name, value) in enumerate(
        {
            "prompt_embeds": object(),
            "prompt_token_ids": None,
            "resumable": True,
            "sampling_params": None,
        }.items()
    ):
        asked = request(f"r{number}", tokens(9))
        setattr(asked, name, value)
        assert engine.prefill(asked) == 0
    assert engine.store.stats().tiers["memory"].chunks == 0


def test_prompts_that_want_their_own_logprobs_load_nothing(engine: Harness) -> None:
    first, second = request("a", tokens(9)), request("b", tokens(9))
    engine.prefill(first)
    engine.finish(first)
    second.skip_reading_prefix_cache = True
    assert engine.prefill(second) == 0
    engine.finish(second)


def test_after_a_reset_nothing_older_is_used_and_running_requests_save_nothing(engine: Harness) -> None:
    first, running, later = request("a", tokens(9)), request("b", tokens(9, 1)), request("c", tokens(9))
    engine.prefill(first)
    engine.finish(first)
    engine.admit(running)
    engine.step({"b": (running, 4)})
    chunks = engine.store.stats().tiers["memory"].chunks
    assert engine.scheduler.reset()
    engine.step({"b": (running, 5)})
    assert engine.finish(running) == {}
    assert engine.store.stats().tiers["memory"].chunks == chunks
    assert engine.prefill(later) == 0
    engine.finish(later)


def test_two_requests_of_one_step_save_their_common_chunks_once(engine: Harness) -> None:
    one, two = request("a", tokens(9)), request("b", tokens(9))
    engine.admit(one)
    engine.admit(two)
    engine.step({"a": (one, 9), "b": (two, 9)})
    assert engine.store.stats().tiers["memory"].counters.saves == 2
    engine.finish(one)
    engine.finish(two)


def test_an_arena_that_is_full_of_held_chunks_saves_nothing_and_loses_nothing() -> None:
    harness = Harness(memory_bytes=4 * 1100)
    asked = [request(f"r{number}", tokens(9, number)) for number in range(6)]
    for one in asked:
        harness.prefill(one)
        harness.finish(one)
    again = request("again", tokens(9, 5))
    assert harness.prefill(again) == 8
    harness.finish(again)
    assert harness.store.stats().held_chunks == 0
    harness.close()
