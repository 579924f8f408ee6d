"""The simulator: small traces whose outcome can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cache.policies.policy import NAMES, UnknownPolicy
from cache.simulate import BOUND, read_trace, replay
from gateway.cli.app import app


def test_hits_end_at_the_first_missing_chunk() -> None:
    outcome = replay([[1, 2, 3], [1, 2, 9, 3], [1, 2, 3]], "lru", 10)
    assert (outcome.asked, outcome.hits, outcome.evictions) == (10, 5, 0)
    assert outcome.hit_rate == 0.5


def test_the_warm_up_is_not_counted() -> None:
    outcome = replay([[1, 2], [1, 2]], "lru", 10, warm_up=1)
    assert (outcome.asked, outcome.hits) == (2, 2)


def test_the_tail_of_a_prompt_goes_first() -> None:
    assert replay([[1, 2, 3, 4], [9], [1, 2, 3, 4]], "lru", 4).hits == 3


def test_the_clairvoyant_keeps_what_comes_back_soonest() -> None:
    prompts = [[1], [2], [3], [1], [2]]
    assert replay(prompts, "lru", 2).hits == 0
    assert replay(prompts, BOUND, 2).hits == 2
    assert replay(prompts, BOUND, 1).hits == 1


single = st.lists(st.integers(0, 8).map(lambda chunk: [chunk]), max_size=60)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(prompts=single, capacity=st.integers(1, 6))
def test_no_policy_hits_more_than_the_bound_on_single_chunks(
    name: str, prompts: list[list[int]], capacity: int
) -> None:
    assert replay(prompts, name, capacity).hits <= replay(prompts, BOUND, capacity).hits


def test_the_command_prints_every_policy_beside_the_bound(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps({"timestamp": n, "hash_ids": [0, n % 3]}) + "\n" for n in range(30)))
    done = CliRunner().invoke(
        app,
        [
            "cache",
            "simulate",
            "--trace",
            str(trace),
            "--bytes",
            "2MiB,4MiB",
            "--chunk-bytes",
            "1MiB",
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [(row["policy"], row["capacity_chunks"]) for row in rows] == [
        (name, size) for size in (2, 4) for name in (*NAMES, BOUND)
    ]
    assert rows[3]["hit_rate"] == 1.0
    table = CliRunner().invoke(app, ["cache", "simulate", "--trace", str(trace), "--bytes", "64MiB"])
    assert "belady" in table.output


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"hash_ids": [1]}\n{"hash_ids": "x"}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_trace(trace)
    done = CliRunner().invoke(app, ["cache", "simulate", "--trace", str(trace), "--bytes", "1MiB"])
    assert done.exit_code == 2
    assert "line 2" in done.output
    with pytest.raises(UnknownPolicy):
        replay([[1]], "magic", 1)
    with pytest.raises(ValueError, match="at least one chunk"):
        replay([[1]], "lru", 0)
