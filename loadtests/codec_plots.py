"""Plots of size against damage from `sluice codec bench --json`: the lower and the further left, the better.

python loadtests/codec_plots.py bench.json --out docs/codecs/pareto.svg
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

LEVELS = {"high", "balanced", "small", "fine", "middle", "coarse"}
LABELS = {"kl": "KL to full KV (nats)", "kl_median": "KL to full KV (nats), median context"}
FLOOR = 1e-6
"""A divergence of nothing has no place on a logarithmic axis."""


def families(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of one codec at several levels, or uniform quantisation at several widths, are one curve."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        name, _, level = row["codec"].rpartition(" ")
        found[
            "uniform" if row["codec"].startswith("uniform") else name if level in LEVELS else row["codec"]
        ].append(row)
    return found


def main() -> None:
    """Draw one plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--damage", choices=tuple(LABELS), default="kl", help="what is drawn upwards")
    options = parser.parse_args()
    rows = [row for row in json.loads(options.figures.read_text())["codecs"] if row["codec"] != "raw"]
    matplotlib.rcParams["svg.hashsalt"] = "sluice"
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    for name, points in families(rows).items():
        points.sort(key=lambda row: row["framed_bits_per_element"])
        sizes = [row["framed_bits_per_element"] for row in points]
        damage = [max(row[options.damage], FLOOR) for row in points]
        axes.plot(sizes, damage, marker="o", linewidth=1.2, markersize=4, label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="bits per element, frames included",
        ylabel=LABELS[options.damage],
    )
    axes.set_xticks([0.5, 1, 2, 4, 8, 16], labels=["0.5", "1", "2", "4", "8", "16"])
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
