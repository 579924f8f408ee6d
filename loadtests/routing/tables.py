"""Results as Markdown: one table per scenario and parameter, best mean first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Row = Mapping[str, object]

HEAD = """# Simulated routing: all results

Written by `python -m loadtests.routing`; see [routing.md](../routing.md). Simulation, seconds. "of oracle" is
the mean time to first token in multiples of the greedy oracle's, which knows every cache, queue and rate
exactly. Times are over requests that got a first token; mind the share that was served.
"""


def markdown(rows: Sequence[Row]) -> str:
    """The whole document."""
    parts = [HEAD]
    for scenario in dict.fromkeys(str(row["scenario"]) for row in rows):
        parts.append(f"\n## {scenario}\n\n![{scenario}]({scenario}.svg)\n")
        some = [row for row in rows if row["scenario"] == scenario]
        parts.extend(
            f"\n### {parameter}\n\n" + table([row for row in some if row["parameter"] == parameter])
            for parameter in dict.fromkeys(str(row["parameter"]) for row in some)
        )
    return "".join(parts)


MEASURED_HEAD = """# Routing over HTTP: all results

Written by `python -m loadtests.routing.over_http`; see [routing.md](../routing.md). Measured over fake
engines, in seconds of the trace, except rows marked as simulation.
"""


def measured(rows: Sequence[Row]) -> str:
    """The document of the runs over HTTP."""
    parts = [MEASURED_HEAD, "\n![http](http.svg)\n"]
    parts.extend(
        f"\n## {parameter}\n\n" + table([row for row in rows if row["parameter"] == parameter])
        for parameter in dict.fromkeys(str(row["parameter"]) for row in rows)
    )
    return "".join(parts)


VLLM_HEAD = """# Routing before two vLLM workers: all runs

Written by `python -m loadtests.routing.over_vllm`; see [routing.md](../routing.md). Measured with real vLLM
workers on CPUs; times are in milliseconds. Medians first, then every run.

![vllm](vllm.svg)
"""


def vllm_document(medians: Sequence[Row], runs: Sequence[Row]) -> str:
    """The document of the runs before real workers."""
    return f"{VLLM_HEAD}\n{_vllm_table(medians)}\n{_vllm_table(runs)}"


def _vllm_table(rows: Sequence[Row]) -> str:
    lines = [
        "| policy | answers | failed | TTFT p50 | TTFT p90 | prefix hits | imbalance |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [str(row["policy"]), f"{_number(row, 'requests'):.0f}", f"{_number(row, 'failures'):.0f}"]
        cells += [f"{_number(row, key):.0f}" for key in ("ttft_p50", "ttft_p90")]
        cells += [f"{_number(row, 'hit'):.1%}", f"{_number(row, 'imbalance'):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> str:
    """One table."""
    oracle = next(_number(row, "mean") for row in rows if str(row["router"]).startswith("greedy oracle"))
    lines = [
        "| router | served | TTFT mean | of oracle | p50 | p90 | p99 | hit | imbalance |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: _number(row, "mean")):
        cells = [str(row["router"]), f"{_number(row, 'success'):.1%}", f"{_number(row, 'mean'):.2f}"]
        cells.append(f"{_number(row, 'mean') / oracle:.2f}")
        cells += [f"{_number(row, key):.2f}" for key in ("p50", "p90", "p99")]
        cells += [f"{_number(row, 'hit'):.1%}", f"{_number(row, 'imbalance'):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(row: Row, key: str) -> float:
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)
