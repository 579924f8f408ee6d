"""The KV layer under real vLLM: right answers whatever happens, from memory and from files, and nothing left
over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.kv import lab as do
from loadtests.kv.engine import BLOCK_TOKENS, random_tokens, sluice
from loadtests.kv.equality import Outcome, workload
from tests.e2e.kv.conftest import Lab

pytestmark = pytest.mark.vllm

MIB = 1 << 20
WORK = workload(24, seed=11, longest=500, answer_tokens=6)
SMALL = {"dtype": "float32", "max_num_seqs": 6, "max_num_batched_tokens": 256, "max_model_len": 1024}
"""Prompts are prefilled in chunks, and many at once do not fit."""


@pytest.fixture(scope="module")
def model(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory: str = lab(do.make_model, tmp_path_factory.mktemp("model") / "random", 1e6)
    return directory


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kv")


@pytest.fixture(scope="module")
def expected(lab: Lab, model: str) -> dict[str, tuple[int, ...]]:
    """What an engine without KV layer answers out of its own prefix cache."""
    lab(do.start, model, None, kv_bytes=64 * MIB, **SMALL)
    answers: dict[str, tuple[int, ...]] = lab(do.reference, WORK)
    return answers


@pytest.fixture(scope="module")
def engine(lab: Lab, model: str, files: Path, expected: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """An engine with KV layer whose cache is too small for what runs at once; returns its `kv` settings."""
    kv = sluice(memory={"bytes": 12 * MIB, "prefault": False}, file={"path": str(files), "bytes": 256 * MIB})
    lab(do.start, model, kv, kv_bytes=4 * MIB, **SMALL)
    return kv


def prompt(seed: int, blocks: int = 6, more: int = 5) -> list[int]:
    return random_tokens(blocks * BLOCK_TOKENS + more, 50_000 + seed)


@pytest.mark.usefixtures("engine")
class TestOneEngine:
    def test_a_prompt_comes_back_from_memory(self, lab: Lab) -> None:
        first = lab(do.ask, prompt(1))
        again = lab(do.ask, prompt(1))
        assert lab(do.forget)
        later = lab(do.ask, prompt(1))
        assert first.sources == {"engine": 0, "computed": len(prompt(1))}
        assert again.sources == {"engine": 6 * BLOCK_TOKENS, "computed": 5}
        assert later.sources == {"engine": 0, "memory": 6 * BLOCK_TOKENS, "computed": 5}
        assert later.cached_tokens == 6 * BLOCK_TOKENS
        assert later.tokens == again.tokens == first.tokens

    def test_of_a_whole_prompt_the_last_block_is_computed(self, lab: Lab) -> None:
        tokens = prompt(2, blocks=4, more=0)
        again = [lab(do.ask, tokens), lab(do.ask, tokens)][1]
        lab(do.forget)
        later = lab(do.ask, tokens)
        assert later.sources == {"engine": 0, "memory": 3 * BLOCK_TOKENS, "computed": BLOCK_TOKENS}
        assert later.tokens == again.tokens

    def test_memory_goes_on_where_the_engine_ends(self, lab: Lab) -> None:
        lab(do.ask, prompt(3, blocks=8))
        lab(do.forget)
        lab(do.ask, prompt(3, blocks=8)[: 3 * BLOCK_TOKENS + 1])
        later = lab(do.ask, prompt(3, blocks=8))
        assert later.sources == {
            "engine": 3 * BLOCK_TOKENS,
            "memory": 5 * BLOCK_TOKENS,
            "computed": 5,
        }

    def test_a_conversation_grows(self, lab: Lab) -> None:
        tokens = prompt(4, blocks=3)
        for turn in range(3):
            answer, asked = lab(do.ask, tokens, 8), len(tokens)
            tokens = [*tokens, *answer.tokens, *prompt(100 + turn, blocks=1)]
            lab(do.forget)
        last = lab(do.ask, tokens)
        assert last.sources["memory"] == asked // BLOCK_TOKENS * BLOCK_TOKENS

    def test_tenants_share_nothing_and_those_of_one_everything(self, lab: Lab) -> None:
        ask = [lab(do.ask, prompt(5), cache_salt=salt) for salt in ("sluice1:1:a:exact", "sluice1:1:b:exact")]
        plain = lab(do.ask, prompt(5))
        lab(do.forget)
        same = lab(do.ask, prompt(5), cache_salt="sluice1:1:a:exact")
        other = lab(do.ask, prompt(5), cache_salt="sluice1:1:c:exact")
        lossy = lab(do.ask, prompt(5), cache_salt="sluice1:1:a:lossy:8")
        hits = [answer.cached_tokens for answer in (*ask, plain, other, lossy)]
        assert hits == [0] * 5
        assert same.sources["memory"] == 6 * BLOCK_TOKENS

    def test_a_damaged_chunk_is_a_miss(self, lab: Lab) -> None:
        again = [lab(do.ask, prompt(6)), lab(do.ask, prompt(6))][1]
        lab(do.forget)
        lab(do.damage_arena)
        later = lab(do.ask, prompt(6))
        assert later.sources.get("memory", 0) == 0
        assert later.tokens == again.tokens
        assert lab(do.totals)["damaged_slots"] >= 1

    def test_a_load_that_fails_is_computed_instead_and_leaves_nothing_wrong_behind(self, lab: Lab) -> None:
        again = [lab(do.ask, prompt(7)), lab(do.ask, prompt(7))][1]
        lab(do.forget)
        lab(do.fail_next_load)
        failed = lab(do.ask, prompt(7))
        after = lab(do.ask, prompt(7))
        lab(do.forget)
        later = lab(do.ask, prompt(7))
        assert failed.tokens == after.tokens == later.tokens == again.tokens
        assert failed.sources == {"engine": 0, "memory": 3 * BLOCK_TOKENS, "computed": 3 * BLOCK_TOKENS + 5}
        assert lab(do.totals)["failed_blocks"] == 1

    def test_events_name_the_tier(self, lab: Lab) -> None:
        lab(do.watch_events)
        lab(do.ask, prompt(8))
        lab(do.written_through, "file")
        lab(do.ask, prompt(9, blocks=1))
        assert lab(do.events) == []  # this engine was started without KV events


def test_under_stress_answers_are_those_of_the_engines_own_prefix_cache(
    lab: Lab, engine: dict[str, Any], expected: dict[str, tuple[int, ...]]
) -> None:
    outcome: Outcome = lab(do.stress, WORK, expected, rounds=2, at_once=8, seed=5, reset_share=0.1)
    assert outcome.differing == []
    assert outcome.compared == 2 * len(WORK.prompts)
    assert outcome.sources["memory"] > 0
    assert outcome.aborted > 0
    assert outcome.preemptions > 0
    assert lab(do.leftovers) == []


def test_whatever_goes_wrong_with_a_tier_answers_stay_right(
    lab: Lab, model: str, tmp_path: Path, expected: dict[str, tuple[int, ...]]
) -> None:
    place = {"path": str(tmp_path), "bytes": 256 * MIB, "link": {"failures_to_open": 1_000_000, "batch": 4}}
    kv = sluice(memory={"bytes": 4 * MIB, "prefault": False}, file=place)
    lab(do.start, model, kv, kv_bytes=4 * MIB, **SMALL)
    lab(do.harm, "file", 0.2, 3)
    outcome: Outcome = lab(do.stress, WORK, expected, rounds=3, at_once=8, seed=6, reset_share=0.2)
    noticed = lab(do.faults, "file")
    done = lab(do.heal)
    assert outcome.differing == []
    assert outcome.compared == 3 * len(WORK.prompts)
    assert sum(done.values()) > 20
    assert noticed > 0
    assert lab(do.leftovers) == []


def test_another_engine_finds_what_the_first_left_in_files(
    lab: Lab, model: str, files: Path, engine: dict[str, Any]
) -> None:
    lab(do.start, model, engine, kv_bytes=16 * MIB, **SMALL)
    first = lab(do.ask, prompt(20), 6)
    assert lab(do.written_through, "file") > 0
    lab(do.start, model, engine, kv_bytes=16 * MIB, **SMALL)
    second = lab(do.ask, prompt(20), 6)
    assert second.sources == {"engine": 0, "file": 6 * BLOCK_TOKENS, "computed": 5}
    assert second.tokens == first.tokens
    assert lab(do.leftovers) == []


def test_without_its_own_prefix_cache_the_engine_has_the_layers(
    lab: Lab, model: str, files: Path, engine: dict[str, Any]
) -> None:
    lab(do.start, model, engine, kv_bytes=16 * MIB, enable_prefix_caching=False, **SMALL)
    first, again = lab(do.ask, prompt(21)), lab(do.ask, prompt(21))
    assert again.sources == {"engine": 0, "memory": 6 * BLOCK_TOKENS, "computed": 5}
    assert again.tokens == first.tokens
