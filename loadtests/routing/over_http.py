"""Routers side by side over real HTTP: a recorded trace, fake engines with finite caches as processes.

    python -m loadtests.routing.over_http --trace conversation.jsonl --out docs/routing
    python -m loadtests.routing.over_http --trace conversation.jsonl --sglang-router venv/bin/sglang-router

The trace is Mooncake's `conversation_trace.jsonl`. Each router gets fresh engines (`sluice worker --engine
fake`); the gateway is `sluice serve` as a process. sglang-router takes part if its program is named or found
(`pip install sglang-router` in its own environment). Beside them stand the greedy oracle and round robin
in the simulator, with the same caches and rates. Results go to `http.json`, `http.md` and `http.svg`.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from loadtests.routing import rivals
from loadtests.routing.engine import EngineSettings
from loadtests.routing.fronts import sglang_router, sluice
from loadtests.routing.plots import plot_measured
from loadtests.routing.replay import MakeFront, Replay, run
from loadtests.routing.scenarios import ORACLE, Row
from loadtests.routing.simulate import Result, Setup, simulate
from loadtests.routing.tables import measured
from loadtests.routing.workload import read_trace, spread

BURSTS, SPREAD = "as recorded", "arrivals spread over the recorder's 3 s"


def main(
    trace: Annotated[Path, typer.Option(help="conversation_trace.jsonl of kvcache-ai/Mooncake")],
    out: Annotated[Path, typer.Option(help="Folder for the results")] = Path("docs/routing"),
    only: Annotated[str, typer.Option(help="Parts of router names, separated by commas; all if empty")] = "",
    sglang: Annotated[
        str | None, typer.Option("--sglang-router", help="Its program", show_default="found in PATH")
    ] = None,
    limit: Annotated[int, typer.Option(help="Requests of the trace to replay")] = 1500,
    engines: Annotated[int, typer.Option(help="Fake engines")] = 4,
    cache_blocks: Annotated[int, typer.Option(help="Cache of each in blocks of 512 tokens")] = 4000,
    speed: Annotated[float, typer.Option(help="Seconds of the trace per second")] = 10.0,
    repeats: Annotated[int, typer.Option(help="Runs of each router; medians are reported")] = 1,
) -> None:
    """Run every router in turn, print each row as it is done, write the results."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that engines and routers end too
    replay = Replay(engines=engines, cache_blocks=cache_blocks, speed=speed)
    results = Results(out, {"requests": limit, **asdict(replay), "repeats": repeats})
    recorded = read_trace(trace, limit)
    wanted = [name for name in only.split(",") if name]
    for arrivals, requests in ((BURSTS, recorded), (SPREAD, spread(recorded))):
        for row in _simulated(arrivals, replay, requests):
            results.put(row)
        for name, make in _routers(sglang or shutil.which("sglang-router"), arrivals).items():
            if wanted and not any(part in name for part in wanted):
                continue
            runs = [run(requests, replay, make) for _ in range(repeats)]
            results.put(Row("http", arrivals, name, _median(runs)))


class Results:
    """What is known so far, on disk after every row; a row that is run again replaces the old one."""

    def __init__(self, folder: Path, conditions: dict[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._document: dict[str, object] = {"kind": "measured run", **conditions}
        path = folder / "http.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        same = all(old.get(key) == value for key, value in conditions.items())
        self._rows: dict[tuple[str, str], dict[str, object]] = {
            (row["parameter"], row["router"]): row for row in (old["rows"] if same else ())
        }

    def put(self, row: Row) -> None:
        """Print it and write everything."""
        print(line(row), flush=True)
        self._rows[row.parameter, row.router] = row.plain()
        rows = sorted(self._rows.values(), key=lambda r: (str(r["parameter"]) != BURSTS, r["mean"]))
        document = {**self._document, "rows": rows}
        (self._folder / "http.json").write_text(json.dumps(document, indent=1) + "\n")
        (self._folder / "http.md").write_text(measured(rows))
        plot_measured(rows, self._folder / "http.svg")


def _routers(sglang: str | None, arrivals: str) -> dict[str, MakeFront]:
    routers: dict[str, MakeFront] = {
        "sluice ttft": sluice(),
        "sluice ttft, KV events": sluice(kv_events=True),
        "sluice least_load": sluice("--policy", "least_load"),
        "sluice round_robin": sluice("--policy", "round_robin"),
    }
    if sglang is not None:
        routers["sglang-router cache_aware"] = sglang_router(sglang, "cache_aware")
        routers["sglang-router round_robin"] = sglang_router(sglang, "round_robin")
    pairs: dict[str, MakeFront] = {
        "two sluice gateways, peers": sluice(gateways=2, peers=True),
        "two sluice gateways, each for itself": sluice(gateways=2),
    }
    if arrivals == BURSTS:
        return {**routers, **pairs}
    return {"sluice ttft": routers["sluice ttft"], **pairs}


def _simulated(arrivals: str, replay: Replay, requests: list) -> list[Row]:  # type: ignore[type-arg]
    engine = EngineSettings(
        replay.cache_blocks, replay.prefill_tokens_per_s, replay.itl_s, eviction="tail_first"
    )
    setup = Setup(engines=replay.engines, engine=engine)
    return [
        Row("http", arrivals, f"{name} (simulation)", simulate(requests, setup, make))
        for name, make in ((ORACLE, rivals.GreedyOracle), ("round robin", rivals.RoundRobin))
    ]


def _median(runs: list[Result]) -> Result:
    return Result(**{field.name: median(getattr(r, field.name) for r in runs) for field in fields(Result)})


def line(row: Row) -> str:
    """One row for a terminal."""
    r = row.result
    return (
        f"{row.parameter:40}{row.router:40}ok {r.success:6.1%}  mean {r.mean:6.2f}  p50 {r.p50:6.2f}  "
        f"p90 {r.p90:6.2f}  p99 {r.p99:6.2f}  hit {r.hit:5.1%}  imbalance {r.imbalance:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
