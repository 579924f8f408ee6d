"""The streaming simulator: runs that can be worked out by hand, and bounds that hold for every seed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cache.stream import TEXT, Fixed, LookAhead, RemainingTime, StoredContext
from cache.stream_simulate import (
    HIGHEST,
    LINKS,
    LOWEST,
    ORACLE,
    Deployment,
    LevelFigures,
    LinkTrace,
    Scenario,
    fixed_policies,
    oracle,
    simulate,
    stream,
    sweep,
    wilson,
)
from gateway.cli.app import app
from gateway.cli.stream_simulate import policies

LEVELS = (
    LevelFigures("exact", 10.757, 0.0),
    LevelFigures("high", 0.89, 0.001),
    LevelFigures("balanced", 0.6, 0.003),
    LevelFigures("small", 0.42, 0.008),
)


def test_a_transfer_ends_when_its_bytes_are_through() -> None:
    trace = LinkTrace([10.0, 0.5, 100.0], step=1.0)
    assert trace.end(0.0, 5) == pytest.approx(0.5)
    assert trace.end(0.5, 5.25) == pytest.approx(1.5)
    assert trace.end(0.0, 10.5 + 250) == pytest.approx(4.5)
    assert trace.rate(99.0) == 100.0
    with pytest.raises(ValueError, match="above zero"):
        LinkTrace([1.0, 0.0])


@given(
    rates=st.lists(st.floats(0.1, 1e9), min_size=1, max_size=5),
    start=st.floats(0, 10),
    nbytes=st.floats(1, 1e9),
)
def test_what_is_sent_until_the_end_is_what_was_to_be_sent(
    rates: list[float], start: float, nbytes: float
) -> None:
    trace = LinkTrace(rates, step=1.0)
    end = trace.end(start, nbytes)
    assert trace.sent(end) - trace.sent(start) == pytest.approx(nbytes, rel=1e-6, abs=1e-3 * max(rates))


def test_text_is_computed_while_later_chunks_travel() -> None:
    class TextFirst:
        name = "text first"

        def choose(self, context: object, progress: object, slo: float) -> int:
            return TEXT if progress.chunk == 0 else 0  # type: ignore[attr-defined]

    context = StoredContext(((30,), (30,)), (2.0, 2.0), (0.5, 0.5), (1.0,))
    run = stream(context, LinkTrace([10.0]), TextFirst(), 9.0)
    assert (run.seconds, run.damage, run.nbytes, run.text) == (3.5, 0.5, 30, 0.5)


def test_text_waits_for_the_chunks_before_it() -> None:
    context = StoredContext(((30,), (30,)), (2.0, 2.0), (0.5, 0.5), (1.0,))

    class TextLast:
        name = "text last"

        def choose(self, context: object, progress: object, slo: float) -> int:
            return TEXT if progress.chunk == 1 else 0  # type: ignore[attr-defined]

    assert stream(context, LinkTrace([10.0]), TextLast(), 9.0).seconds == 5.5
    assert stream(context, LinkTrace([10.0]), Fixed(TEXT, "text"), 9.0).seconds == 4.0


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("slo", [0.3, 1.5])
def test_no_policy_beats_the_oracle(link: str, slo: float) -> None:
    deployment = Deployment(LEVELS)
    for context, trace in Scenario(link, slo, 3072, 8).cases(deployment):
        best = oracle(context, trace, slo)
        for policy in policies(LEVELS):
            run = stream(context, trace, policy, slo)
            if run.seconds <= slo:
                assert best.seconds <= slo
                assert best.damage <= run.damage + 1e-12
            else:
                assert best.seconds <= run.seconds + 1e-9


@pytest.mark.parametrize("link", LINKS)
def test_links_are_the_same_for_the_same_seed_and_within_bounds(link: str) -> None:
    one, other = (LINKS[link](random.Random(5)) for _ in range(2))
    rates = [one.rate(second / 7) for second in range(300)]
    assert rates == [other.rate(second / 7) for second in range(300)]
    assert LOWEST * 0.999 <= min(rates) <= max(rates) <= HIGHEST * 1.001


def test_on_a_steady_link_that_is_fast_enough_nobody_is_late() -> None:
    context = Deployment(LEVELS).context(6, 1536)
    trace = LinkTrace([HIGHEST])
    for policy in (RemainingTime(2), LookAhead(2), LookAhead(2, overlap=False)):
        assert stream(context, trace, policy, 1.0).seconds <= 1.0
        assert stream(context, trace, policy, 1.0).damage <= 0.003 / 6


def test_outcomes_are_means_with_intervals() -> None:
    (scenario,) = sweep(["bursty"], [1.0], Scenario("", 0, 3072, 5))
    outcomes = list(simulate([scenario], Deployment(LEVELS), fixed_policies(LEVELS), with_oracle=True))
    assert [one.policy for one in outcomes] == [
        "only exact",
        "only high",
        "only balanced",
        "only small",
        "only text",
        ORACLE,
    ]
    small = outcomes[3]
    assert small.damage == pytest.approx(0.008)
    assert small.violations_low <= small.violations <= small.violations_high
    assert outcomes[4].megabytes == 0
    with pytest.raises(ValueError, match="there are steady"):
        sweep(["wet string"], [1.0], scenario)


def test_wilsons_interval() -> None:
    assert wilson(0, 10) == (0.0, pytest.approx(0.278, abs=1e-3))
    assert wilson(5, 10) == (pytest.approx(0.237, abs=1e-3), pytest.approx(0.763, abs=1e-3))


def test_the_command_writes_rows_and_set_up(tmp_path: Path) -> None:
    bench = tmp_path / "bench.json"
    rows = [
        {"codec": name, "framed_bits_per_element": level.bits_per_element, "kl": level.damage}
        for name, level in zip(("lossless", "weir high", "weir balanced", "weir small"), LEVELS, strict=True)
    ]
    bench.write_text(json.dumps({"codecs": rows}))
    out = tmp_path / "out.json"
    command = ["cache", "simulate-stream", "--link", "steady", "--slo", "1", "--seeds", "3"]
    command += ["--bench", str(bench), "--chunk-tokens", "3072", "--json", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "| steady | 1 | remaining time |" in result.output
    written = json.loads(out.read_text())
    assert written["deployment"]["levels"][1]["name"] == "high"
    assert len(written["rows"]) == 10
    assert CliRunner().invoke(app, [*command, "--codec", "zip"]).exit_code == 2
