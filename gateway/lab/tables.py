"""The stream lab's results as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Summary = Mapping[str, Any]


def markdown(summary: Summary) -> str:
    """All tables of one summary."""
    parts = [_overall(summary), _links(summary)]
    parts += [_metric(summary, "stall", "Stall"), _metric(summary, "late", "Late"), _bytes(summary)]
    return "\n".join(parts)


def line(cell: Mapping[str, Any]) -> str:
    """One cell for a terminal."""
    return (
        f"{cell['link']:<34} {cell['scheme']:<20} stall {_percent(cell['stall'][0]):>6}  "
        f"late {_percent(cell['late'][0]):>6}  p99 +{1000 * cell['delay_p99']:5.0f} ms  "
        f"{cell['down']:5.0f} + {cell['up']:4.0f} bytes/token"
    )


def overall_lines(summary: Summary) -> list[str]:
    """What each scheme is over all links, for a terminal."""
    out = []
    for name, row in summary["overall"].items():
        text = f"{name:<20} stall {_percent(row['stall']):>6}  late {_percent(row['late']):>6}"
        for reference, ratios in row["ratios"].items():
            text += f"  {reference} x{ratios['stall'][0]:.2f}" if ratios["stall"] else ""
        out.append(text)
    return out


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _overall(summary: Summary) -> str:
    references = [
        name for name in ("sse", "retransmit", "dup2", "fec", "oracle") if name in summary["overall"]
    ]
    head = ["scheme", "stall", "late", "mean delay", "p99 delay", "bytes/token down + up"]
    head += [f"stall to {name}" for name in references]
    rows = []
    for name, row in summary["overall"].items():
        cells = [name, _percent(row["stall"]), _percent(row["late"])]
        cells += [f"{1000 * row[key]:.0f} ms" for key in ("delay", "delay_p99")]
        cells.append(f"{row['down']:.0f} + {row['up']:.0f}")
        for reference in references:
            ratio = row["ratios"].get(reference, {}).get("stall")
            cells.append(f"{ratio[0]:.2f} ({ratio[1]:.2f} - {ratio[2]:.2f})" if ratio else "")
        rows.append(cells)
    title = f"**Mean over {len(summary['links'])} links, {summary['seeds']} seeds each.** "
    return title + "Ratios with 95 % intervals of a paired bootstrap over seeds.\n\n" + _table(head, rows)


def _links(summary: Summary) -> str:
    head = ["link", "RTT ms", "loss", "bad periods", "rate", "jitter ms", "tokens/s", "answer s"]
    rows = []
    for link in summary["links"]:
        bad = "" if not link["burst"] else f"{link['burst']:g} ms"
        if link["every"]:
            bad += f" every {link['every'] / 1000:g} s"
        if link["burst"] and link["bad_loss"] < 1:
            bad += f", {100 * link['bad_loss']:g} % lost"
        if link["burst"] and not link["shared"]:
            bad += ", each way alone"
        rows.append(
            [
                link["name"],
                f"{link['rtt']:g}",
                "" if link["every"] else f"{100 * link['loss']:g} %",
                bad or "none",
                f"{link['rate']:g} kbit/s" if link["rate"] else "",
                f"{link['jitter']:g}" if link["jitter"] else "",
                f"{link['tokens']:g}" if link["tokens"] else "recorded",
                f"{link['seconds']:g}",
            ]
        )
    return "**Links.**\n\n" + _table(head, rows)


def _metric(summary: Summary, metric: str, title: str) -> str:
    def show(cell: Mapping[str, Any]) -> str:
        value, low, high = cell[metric]
        return f"{100 * value:.2f} ({100 * low:.2f} - {100 * high:.2f})"

    return f"**{title}, per cent of the answer's time, with 95 % intervals.**\n\n" + _grid(summary, show)


def _bytes(summary: Summary) -> str:
    return "**Bytes per token, down + up.**\n\n" + _grid(
        summary, lambda cell: f"{cell['down']:.0f} + {cell['up']:.0f}"
    )


def _grid(summary: Summary, show: Any) -> str:
    names = list(summary["schemes"])
    by = {(cell["link"], cell["scheme"]): cell for cell in summary["cells"]}
    rows = [[link["name"], *(show(by[link["name"], name]) for name in names)] for link in summary["links"]]
    return _table(["link", *names], rows)
