"""A worker that is killed while it saves leaves a store that the next one reads, to the last whole chunk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loadtests.kv import lab as do
from loadtests.kv.engine import BLOCK_TOKENS, random_tokens, sluice

pytestmark = pytest.mark.vllm

MIB = 1 << 20
PATIENCE = 300.0
PROMPTS = {f"p{number}": random_tokens(12 * BLOCK_TOKENS + 5, 80_000 + number) for number in range(24)}
OPTIONS = {"dtype": "float32", "max_model_len": 1024, "max_num_batched_tokens": 512, "kv_bytes": 64 * MIB}


def child() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def run(pool: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return pool.submit(function, *arguments, **named).result(PATIENCE)


def chunks(files: Path) -> int:
    """Frames that have their names; those being written have others."""
    return sum(1 for _ in files.rglob("*.kv"))


def test_what_was_written_before_kill_9_is_there_and_right(tmp_path: Path) -> None:
    files = tmp_path / "kv"
    kv = sluice(memory={"bytes": 64 * MIB, "prefault": False}, file={"path": str(files), "bytes": 256 * MIB})
    with child() as pool:
        model = run(pool, do.make_model, tmp_path / "model", 1e6)
        run(pool, do.start, model, kv, **OPTIONS)
        pid = run(pool, os.getpid)
        answering = pool.submit(do.ask_all, PROMPTS)
        deadline = time.monotonic() + PATIENCE
        while chunks(files) < 12 and not answering.done():
            assert time.monotonic() < deadline, "nothing was saved"
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    with child() as pool:
        run(pool, do.start, model, None, **OPTIONS)
        expected = run(pool, do.ask_all, PROMPTS)
        run(pool, do.start, model, kv, **OPTIONS)
        found = [run(pool, do.ask, tokens) for tokens in PROMPTS.values()]
        from_files = sum(answer.sources.get("file", 0) for answer in found)
        assert [answer.tokens for answer in found] == [answer.tokens for answer in expected.values()]
        assert from_files >= BLOCK_TOKENS
        assert run(pool, do.faults, "file") == 0
        assert run(pool, do.leftovers) == []
        run(pool, do.stop)
