"""A tier that does not answer, under real vLLM: requests are computed after a bounded wait, the worker goes
on, metrics tell, and the tier is used again when it is back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.kv_servers import ServerMissing, redis_server, valkey
from loadtests.kv import lab as do
from loadtests.kv.engine import BLOCK_TOKENS, random_tokens, sluice
from tests.e2e.kv.conftest import Lab

pytestmark = pytest.mark.vllm

MIB = 1 << 20
BLOCKS = 6
OPTIONS = {"dtype": "float32", "max_model_len": 1024, "max_num_batched_tokens": 512, "kv_bytes": 32 * MIB}
LINK = {"timeout_seconds": 0.5, "failures_to_open": 2, "retry_seconds": 0.2}
FETCH_SECONDS = 1.0
SAVED = range(40)
"""Prompts that the tier holds before it hangs."""


def prompt(seed: int) -> list[int]:
    return random_tokens(BLOCKS * BLOCK_TOKENS + 5, 90_000 + seed)


@pytest.fixture(scope="module")
def model(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory: str = lab(do.make_model, tmp_path_factory.mktemp("model") / "random", 1e6)
    return directory


def restarted(lab: Lab, model: str, tier: str, **place: Any) -> dict[int, tuple[int, ...]]:
    """An engine whose memory is empty and whose tier holds the prompts; their answers."""
    kv = sluice(
        memory={"bytes": 24 * MIB, "prefault": False, "refill": 0.0}, fetch_seconds=FETCH_SECONDS, **place
    )
    lab(do.start, model, kv, **OPTIONS)
    answers = {seed: lab(do.ask, prompt(seed)).tokens for seed in SAVED}
    assert lab(do.written_through, tier) >= BLOCKS * len(SAVED)
    lab(do.start, model, kv, **OPTIONS)
    return answers


def loads_again(lab: Lab, tier: str, answers: dict[int, tuple[int, ...]], seeds: Iterator[int]) -> bool:
    """Whether the tier is used again for prompts that were not asked for yet; all answers are right.

    The load that hung was slow, as far as anybody can tell, so the next ones need not seem to pay: then
    chunks are loaded to try the tier out.
    """
    before = lab(do.loads, tier)
    for seed in seeds:
        answer = lab(do.ask, prompt(seed))
        assert answer.tokens == answers[seed]
        if answer.sources.get(tier, 0) == BLOCKS * BLOCK_TOKENS:
            return True
    return bool(lab(do.await_loads, tier, before))


def test_files_that_hang(lab: Lab, model: str, tmp_path: Path) -> None:
    place = {"path": str(tmp_path), "bytes": 256 * MIB, "link": LINK}
    answers = restarted(lab, model, "file", file=place)
    seeds = iter(SAVED)
    lab(do.hang, "file")
    for _ in range(3):
        seed = next(seeds)
        answer = lab(do.ask, prompt(seed))
        assert answer.tokens == answers[seed]
        assert answer.sources["computed"] == len(prompt(seed))
    told = lab(do.totals)
    assert told["late_fetches"] + told["failed_blocks"] >= 1
    assert lab(do.await_available, "file", False)
    assert lab(do.totals)["tier_available/file"] == 0
    assert len(lab(do.ask, prompt(1000)).tokens) == 4
    lab(do.heal)
    assert lab(do.await_available, "file", True)
    assert loads_again(lab, "file", answers, seeds)
    assert lab(do.leftovers) == []


def test_a_valkey_server_that_is_stopped(lab: Lab, model: str, tmp_path: Path) -> None:
    try:
        redis_server()
    except ServerMissing as missing:
        pytest.skip(str(missing))
    from valkey import Valkey

    with valkey(tmp_path) as url:
        with Valkey.from_url(url) as client:
            pid = int(client.info("server")["process_id"])
        answers = restarted(lab, model, "valkey", valkey={"url": url, "link": LINK})
        seeds = iter(SAVED)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                seed = next(seeds)
                answer = lab(do.ask, prompt(seed))
                assert answer.tokens == answers[seed]
                assert answer.sources["computed"] == len(prompt(seed))
            assert lab(do.totals)["tier_faults/valkey/timeout"] >= 1
        finally:
            os.kill(pid, signal.SIGCONT)
        assert lab(do.await_available, "valkey", True)
        assert loads_again(lab, "valkey", answers, seeds)
        assert lab(do.leftovers) == []
        lab(do.stop)
