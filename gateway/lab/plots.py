"""Charts of the stream lab's results. Needs matplotlib (the extra `loadtest`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_COLOURS = {
    "oracle": "#2c3e50",
    "eloquent": "#c0392b",
    "sse": "#7f8c8d",
    "retransmit": "#b0b7b9",
    "dup2": "#d5a253",
}
_SHOWN = ("oracle", "eloquent", "sse", "retransmit", "dup2", "fec")
_OTHER = "#8fa7b3"
TITLES = {"stall": "gaps over 200 ms, % of the time", "late": "behind schedule, % of the time"}


def bars(summary: Mapping[str, Any], path: Path) -> None:
    """Both metrics per link and scheme, with their intervals."""
    names = [name for name in _SHOWN if name in summary["schemes"]] or list(summary["schemes"])
    links = [link["name"] for link in summary["links"]]
    by = {(cell["link"], cell["scheme"]): cell for cell in summary["cells"]}
    figure = Figure(figsize=(11, 0.5 * len(links) + 1.2))
    for axis, metric in zip(figure.subplots(1, 2, sharey=True), TITLES, strict=True):
        for place, name in enumerate(names):
            height = 0.8 / len(names)
            values = [by[link, name][metric] for link in links]
            axis.barh(
                [len(links) - i - place * height for i in range(len(links))],
                [100 * v[0] for v in values],
                height=height,
                xerr=[
                    [100 * max(0, v[0] - v[1]) for v in values],
                    [100 * max(0, v[2] - v[0]) for v in values],
                ],
                error_kw={"linewidth": 0.6},
                color=_COLOURS.get(name, _OTHER),
                label=name,
            )
        axis.set_yticks([len(links) - i - 0.35 for i in range(len(links))], links, fontsize=8)
        axis.set_title(TITLES[metric], fontsize=9)
        axis.grid(axis="x", linewidth=0.3)
    figure.axes[0].legend(fontsize=7)
    figure.suptitle(f"simulation, {summary['seeds']} seeds per bar, 95 % intervals", fontsize=9)
    _save(figure, path)


def lines(summary: Mapping[str, Any], parameter: str, path: Path) -> None:
    """Both metrics over the swept `parameter` of the links."""
    values = [link[parameter] for link in summary["links"]]
    figure = Figure(figsize=(9, 3.2))
    for axis, metric in zip(figure.subplots(1, 2), TITLES, strict=True):
        for name in summary["schemes"]:
            cells = [cell[metric] for cell in summary["cells"] if cell["scheme"] == name]
            colour = _COLOURS.get(name, _OTHER)
            axis.plot(values, [100 * c[0] for c in cells], color=colour, marker=".", label=name)
            axis.fill_between(
                values, [100 * c[1] for c in cells], [100 * c[2] for c in cells], color=colour, alpha=0.2
            )
        axis.set_xlabel(parameter, fontsize=8)
        axis.set_title(TITLES[metric], fontsize=9)
        axis.set_ylim(bottom=0)
        axis.grid(linewidth=0.3)
    figure.axes[0].legend(fontsize=7)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    with mpl.rc_context({"svg.hashsalt": "stream", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
