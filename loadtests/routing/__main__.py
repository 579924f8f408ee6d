"""Routing policies side by side, on a recorded trace over simulated engines, in virtual time.

    python -m loadtests.routing --trace conversation.jsonl --out docs/routing

The trace is Mooncake's `conversation_trace.jsonl` (FAST'25, kvcache-ai/Mooncake). All figures are of a
simulation: finite LRU prefix caches, one prefill at a time per engine, decoding beside it; the router is the
class that the gateway runs. `--only` names scenarios. Results go to `results.json`, `results.md` and one
SVG per scenario.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from loadtests.routing.plots import plot
from loadtests.routing.scenarios import SCENARIOS, Row, Trace
from loadtests.routing.tables import markdown


def main(
    trace: Annotated[Path, typer.Option(help="conversation_trace.jsonl of kvcache-ai/Mooncake")],
    out: Annotated[Path, typer.Option(help="Folder for results.json and the plots")] = Path("docs/routing"),
    only: Annotated[str, typer.Option(help="Scenarios, separated by commas; all if empty")] = "",
    limit: Annotated[int, typer.Option(help="Requests of the trace to replay")] = 12_031,
) -> None:
    """Run the scenarios, print each row as it is done, write the results."""
    names = only.split(",") if only else list(SCENARIOS)
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise typer.BadParameter(f"no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in kept if row["scenario"] not in names]
    for name in names:
        fresh: list[Row] = []
        started = time.monotonic()
        for row in SCENARIOS[name](Trace(trace, limit)):
            fresh.append(row)
            print(line(row), f"{time.monotonic() - started:6.1f}s", flush=True)
            started = time.monotonic()
        rows.extend(row.plain() for row in fresh)
        plot(name, [row for row in rows if row["scenario"] == name], out / f"{name}.svg")
    rows.sort(key=lambda row: list(SCENARIOS).index(str(row["scenario"])))
    text = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f'{{"kind": "simulation", "rows": [\n{text}\n]}}\n')
    (out / "results.md").write_text(markdown(rows))


def line(row: Row) -> str:
    """One row for a terminal."""
    r = row.result
    return (
        f"{row.scenario:14}{row.parameter:24}{row.router:56}"
        f"ok {r.success:6.1%}  mean {r.mean:7.2f}  p50 {r.p50:6.2f}  p90 {r.p90:6.2f}  p99 {r.p99:6.2f}  "
        f"hit {r.hit:5.1%}  imbalance {r.imbalance:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
