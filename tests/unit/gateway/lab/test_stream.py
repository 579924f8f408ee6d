from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.lab import app
from gateway.lab import bootstrap, tables
from gateway.lab.links import PUBLISHED, Link
from gateway.lab.stream import compare, samples, summary, sweep

LINK = Link("short", loss=0.1, burst=150, tokens=20, seconds=4)


def test_an_interval_covers_the_mean_and_narrows_with_the_sample() -> None:
    rng = random.Random(1)
    few, many = ([rng.gauss(5, 2) for _ in range(n)] for n in (20, 400))
    mean, low, high = bootstrap.mean(few)
    assert low < mean < high
    _, low_many, high_many = bootstrap.mean(many)
    assert high_many - low_many < (high - low) / 2
    assert low_many < 5 < high_many


def test_pairing_takes_out_what_both_share() -> None:
    rng = random.Random(1)
    theirs = [rng.uniform(1, 100) for _ in range(100)]
    ours = [value / 2 for value in theirs]
    found = bootstrap.ratio([ours], [theirs])
    assert found == pytest.approx((0.5, 0.5, 0.5))


def test_every_link_counts_the_same_and_nothing_over_nothing_is_no_ratio() -> None:
    found = bootstrap.ratio([[1.0, 1.0], [8.0, 8.0]], [[2.0, 2.0], [10.0, 10.0]])
    assert found == pytest.approx((0.75, 0.75, 0.75))
    assert bootstrap.ratio([[1.0, 1.0]], [[0.0, 0.0]]) is None


def test_the_summary_compares_all_schemes_on_all_links() -> None:
    told = []
    links = [LINK, Link("calm", tokens=20, seconds=2)]
    cells = compare(links, ["oracle", "dup2", "eloquent"], 8, told.append)
    assert told == cells
    found = summary(cells)
    assert [(cell["link"], cell["scheme"]) for cell in found["cells"]] == [
        (link.name, scheme) for link in links for scheme in ("oracle", "dup2", "eloquent")
    ]
    ours = found["overall"]["eloquent"]
    assert (
        1 <= ours["ratios"]["oracle"]["stall"][0] < found["overall"]["dup2"]["ratios"]["oracle"]["stall"][0]
    )
    text = tables.markdown(found)
    assert "| short | 100 | 10 % | 150 ms" in text
    assert len(samples(cells)[0]["stall"]) == 8


def test_a_sweep_varies_one_property() -> None:
    assert [link.rtt for link in sweep([LINK], "rtt", "20,400")] == [20, 400]
    with pytest.raises(ValueError, match="cannot be swept"):
        sweep([LINK], "name", "1")
    with pytest.raises(ValueError, match="one link"):
        sweep(PUBLISHED, "rtt", "1")


@pytest.mark.parametrize(("schemes", "seeds"), [(["eloquent", "pigeons"], 2), (["eloquent"], 1)])
def test_what_cannot_be_compared_is_refused(schemes: list[str], seeds: int) -> None:
    with pytest.raises(ValueError, match="pigeons|at least 2"):
        compare([LINK], schemes, seeds)


def test_the_command_writes_what_it_found(tmp_path: Path) -> None:
    out, table = tmp_path / "out.json", tmp_path / "out.md"
    arguments = ["stream", "--link", "loss=5%,burst=100,tokens=20,seconds=2", "--seeds", "3"]
    found = CliRunner().invoke(app, [*arguments, "--json", str(out), "--table", str(table)])
    assert found.exit_code == 0, found.output
    assert "eloquent" in found.output
    document = json.loads(out.read_text())
    assert document["seeds"] == 3
    assert {sample["scheme"] for sample in document["samples"]} == set(document["schemes"])
    assert table.read_text().count("\n| eloquent |") == 1


def test_the_command_shows_what_there_is() -> None:
    found = CliRunner().invoke(app, ["stream", "--list"])
    assert found.exit_code == 0
    assert "eloquent-two-paths" in found.output
    assert PUBLISHED[0].name in found.output


@pytest.mark.parametrize("arguments", [["--link", "moon"], ["--schemes", "pigeons"], ["--sweep", "rtt=1"]])
def test_the_command_says_what_is_wrong(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["stream", *arguments]).exit_code == 2


def test_charts_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for arguments, name in ((["--sweep", "rtt=50,100"], "lines.svg"), ([], "bars.svg")):
        link = ["--link", "loss=5%,burst=100,tokens=20,seconds=2", "--seeds", "2"]
        found = CliRunner().invoke(app, ["stream", *link, *arguments, "--plot", str(tmp_path / name)])
        assert found.exit_code == 0, found.output
        assert (tmp_path / name).read_text().count("eloquent") >= 1


def test_the_real_run_is_given_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("gateway.cli.lab.subprocess.run", run)
    table = str(tmp_path / "real.md")
    asked = ["stream", "--real", "--link", "short", "--seeds", "1", "--table", table]
    assert CliRunner().invoke(app, asked).exit_code == 3
    assert commands[0][1:] == ["-m", "loadtests.stream", "--seeds", "1", "--only", "short", "--table", table]
    assert CliRunner().invoke(app, ["stream", "--real"]).exit_code == 3
    assert commands[1][4:6] == ["4", "--only"]
