"""One chart per scenario: mean and p99 time to first token relative to the greedy oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = Mapping[str, object]
ORACLE = "greedy oracle"
LINES = ("shared_prefix", "cache_sizes", "fleet_sizes")
HIGHLIGHT, OTHERS = "#c0392b", "#7f8c8d"
CUT = 4.0
"""Ratios above this are cut off and written beside the bar."""


def plot(scenario: str, rows: Sequence[Row], path: Path) -> None:
    """Lines over the parameter where it is a number, bars otherwise."""
    if scenario in LINES:
        _lines(scenario, rows, path)
    else:
        _bars(scenario, rows, path)


def plot_measured(rows: Sequence[Row], path: Path) -> None:
    """The runs over HTTP."""
    _bars(
        "over HTTP", rows, path, "measured over fake engines; oracle and round robin without a name simulated"
    )


def plot_vllm(medians: Sequence[Row], runs: Sequence[Row], path: Path) -> None:
    """Medians as bars, every run as a dot."""
    figure = Figure(figsize=(10, 2.6))
    panels = (("ttft_p50", "TTFT p50, ms"), ("ttft_p90", "TTFT p90, ms"), ("hit", "prefix hits, %"))
    for axis, (key, title) in zip(figure.subplots(1, 3), panels, strict=True):
        scale = 100.0 if key == "hit" else 1.0
        for place, row in enumerate(reversed(medians)):
            ours = row["policy"] == "ttft"
            axis.barh(place, scale * _number(row, key), color=HIGHLIGHT if ours else OTHERS)
            dots = [scale * _number(run, key) for run in runs if run["policy"] == row["policy"]]
            axis.plot(dots, [place] * len(dots), "k.", markersize=4)
        axis.set_yticks(range(len(medians)), [str(row["policy"]) for row in reversed(medians)], fontsize=8)
        axis.set_title(title, fontsize=9)
    figure.suptitle(
        "two vLLM workers under Locust (measured; bars are medians, dots single runs)", fontsize=10
    )
    _save(figure, path)


def _bars(scenario: str, rows: Sequence[Row], path: Path, kind: str = "simulation") -> None:
    parameters = list(dict.fromkeys(str(row["parameter"]) for row in rows))
    most = max(sum(row["parameter"] == p for row in rows) for p in parameters)
    figure = Figure(figsize=(5.5 * len(parameters) + 2.5, 0.26 * most + 1.2))
    axes = figure.subplots(1, len(parameters), squeeze=False, sharex=True)
    for axis, parameter in zip(axes[0], parameters, strict=True):
        some = [row for row in rows if row["parameter"] == parameter]
        _bar_panel(axis, some, parameter)
    figure.suptitle(f"{scenario}: mean TTFT, with p99 as a mark, in multiples of the oracle's ({kind})")
    _save(figure, path)


def _bar_panel(axis: Axes, rows: Sequence[Row], title: str) -> None:
    oracle = next(row for row in rows if str(row["router"]).startswith(ORACLE))
    ordered = sorted(rows, key=lambda row: -_number(row, "mean"))
    for place, row in enumerate(ordered):
        mean = _number(row, "mean") / _number(oracle, "mean")
        p99 = _number(row, "p99") / _number(oracle, "p99")
        name = str(row["router"])
        axis.barh(place, min(mean, CUT), color=HIGHLIGHT if "sluice" in name or "gateway" in name else OTHERS)
        if p99 <= CUT:
            axis.plot(p99, place, marker="|", color="black", markersize=9)
        success = _number(row, "success")
        note = f"{mean:.2f}" + ("" if success > 0.9995 else f", {success:.0%} served")
        axis.text(min(mean, CUT) + 0.05, place, note, va="center", fontsize=7)
    axis.set_yticks(range(len(ordered)), [str(row["router"]) for row in ordered], fontsize=7)
    axis.axvline(1.0, color="black", linewidth=0.6)
    axis.set_xlim(0, CUT + 0.8)
    axis.set_title(title, fontsize=9)


def _lines(scenario: str, rows: Sequence[Row], path: Path) -> None:
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    for router in dict.fromkeys(str(row["router"]) for row in rows):
        some = [row for row in rows if row["router"] == router]
        xs = [str(row["parameter"]).split(" ")[0] for row in some]
        style = _style(router)
        left.plot(xs, [_number(row, "mean") for row in some], label=router, **style)
        right.plot(xs, [100 * _number(row, "success") for row in some], **style)
    unit = str(rows[0]["parameter"]).split(" ", 1)[1]
    left.set_yscale("log")
    left.set_ylabel("mean TTFT, s")
    right.set_ylabel("requests served, %")
    right.set_ylim(0, 103)
    for axis in (left, right):
        axis.set_xlabel(unit)
        axis.grid(alpha=0.3)
    left.legend(fontsize=6)
    figure.suptitle(f"{scenario} (simulation)")
    _save(figure, path)


def _style(router: str) -> dict[str, Any]:
    if router == ORACLE:
        return {"color": "black", "linewidth": 1.0, "linestyle": "--"}
    if "sluice" in router:
        return {"color": HIGHLIGHT, "linewidth": 2.0, "marker": "o", "markersize": 3}
    return {"linewidth": 0.9, "marker": ".", "markersize": 3}


def _number(row: Row, key: str) -> float:
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    with mpl.rc_context({"svg.hashsalt": "routing", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
