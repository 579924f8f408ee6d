"""Routing before two real vLLM workers on CPUs, under a multi-turn load from Locust.

    python -m loadtests.routing.over_vllm --out docs/routing

Two `sluice worker` with the model that ships, one core each; their KV caches hold all documents together but
not each on its own. For every policy in turn a gateway (`sluice serve`) is started before them, their prefix
caches are reset, and Locust's users ask about the documents, over several turns each. Prefix hits are the
workers' own counters, times are Locust's. Medians and all runs go to `vllm.json`, `vllm.md`, `vllm.svg`.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from engine_adapter.api import WorkerInfo
from loadtests.bench.process import Process
from loadtests.routing.fronts import sluice
from loadtests.routing.plots import plot_vllm
from loadtests.routing.replay import free_port, prefix_cache
from loadtests.routing.tables import vllm_document

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ("ttft", "least_load", "round_robin")
KV_BYTES_PER_TOKEN = 3072
"""Of the model that ships: 4 layers, 3 heads of 64, keys and values in bfloat16."""
START_SECONDS = 240.0
WARM_UP_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Load:
    """What the users do."""

    users: int = 6
    seconds: int = 40
    documents: int = 8
    facts: int = 360
    turns: int = 3
    answer_tokens: int = 16
    think_seconds: float = 0.5
    cache_tokens: int = 14_336
    """KV cache of each worker."""


@dataclass(frozen=True, slots=True)
class Run:
    """One policy once. Times in milliseconds, over `requests` answers."""

    policy: str
    requests: int
    failures: int
    ttft_p50: float
    ttft_p90: float
    hit: float
    """Prompt tokens that the workers found in their prefix caches, of all."""
    prompt_tokens: float
    imbalance: float
    """Computed prompt tokens of the busier worker over the mean."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results")] = Path("docs/routing"),
    repeats: Annotated[int, typer.Option(help="Runs of each policy")] = 3,
    seconds: Annotated[int, typer.Option(help="Length of a run")] = 40,
    users: Annotated[int, typer.Option(help="Users at a time")] = 6,
    policies: Annotated[str, typer.Option(help="Separated by commas")] = ",".join(POLICIES),
) -> None:
    """Start the workers, run every policy `repeats` times in turn, write the results."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers and gateway end too
    load = Load(users=users, seconds=seconds)
    runs: list[Run] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-vllm-")))
        workers = stack.enter_context(_workers(load, folder))
        # The first requests of a new vLLM take long, whoever sends them.
        _run(POLICIES[-1], repeats, replace(load, seconds=WARM_UP_SECONDS), workers, folder / "warm-up")
        for repeat in range(repeats):
            for policy in policies.split(","):
                runs.append(_run(policy, repeat, load, workers, folder / f"{policy}-{repeat}"))
                print(runs[-1], flush=True)
    rows = [asdict(run) for run in runs]
    medians = [_median([run for run in runs if run.policy == policy]) for policy in policies.split(",")]
    out.mkdir(parents=True, exist_ok=True)
    document = {"kind": "measured run", **asdict(load), "medians": medians, "runs": rows}
    (out / "vllm.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "vllm.md").write_text(vllm_document(medians, rows))
    plot_vllm(medians, rows, out / "vllm.svg")


@contextmanager
def _workers(load: Load, folder: Path) -> Iterator[list[WorkerInfo]]:
    """Two workers, each on a core of its own, shared with everything else that runs."""
    with ExitStack() as stack:
        workers: list[WorkerInfo] = []
        processes: list[Process] = []
        for number in range(2):
            port = free_port()
            events, replay = (f"ipc://{folder}/{number}.{kind}" for kind in ("events", "replay"))
            # vLLM's switch for developers opens the route that resets a prefix cache.
            command = ["env", "VLLM_SERVER_DEV_MODE=1", "OMP_NUM_THREADS=1"]
            command += [sys.executable, "-m", "gateway", "worker", "--port", str(port)]
            command += ["--kv-cache-bytes", str(load.cache_tokens * KV_BYTES_PER_TOKEN)]
            command += ["--kv-events", events, "--kv-replay", replay]
            core = sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]
            process = Process(command, core=core, log=folder / f"worker-{number}.log", cwd=ROOT)
            stack.callback(process.stop)
            processes.append(process)
            workers.append(
                WorkerInfo(f"w{number}", f"http://127.0.0.1:{port}", kv_events=events, kv_replay=replay)
            )
        for worker, process in zip(workers, processes, strict=True):
            process.wait_for(f"{worker.url}/health", limit=START_SECONDS)
        yield workers


def _run(policy: str, repeat: int, load: Load, workers: Sequence[WorkerInfo], folder: Path) -> Run:
    folder.mkdir()
    for worker in workers:
        request = urllib.request.Request(f"{worker.url}/reset_prefix_cache", method="POST")
        urllib.request.urlopen(request, timeout=30).close()
    front = sluice("--policy", policy, kv_events=True)(workers, folder)
    gateway = Process(front.commands[0], core=None, log=folder / "gateway.log", cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{front.ports[0]}"
        gateway.wait_for(f"{url}/ready", limit=60.0)
        time.sleep(1.0)
        before = [prefix_cache(worker.url) for worker in workers]
        ttft, failures = _locust(url, repeat, load, folder)
        after = [prefix_cache(worker.url) for worker in workers]
    finally:
        gateway.stop()
    queries = [end[0] - start[0] for start, end in zip(before, after, strict=True)]
    hits = [end[1] - start[1] for start, end in zip(before, after, strict=True)]
    computed = [asked - found for asked, found in zip(queries, hits, strict=True)]
    return Run(
        policy=policy,
        requests=int(ttft["Request Count"]),
        failures=failures,
        ttft_p50=float(ttft["50%"]),
        ttft_p90=float(ttft["90%"]),
        hit=round(sum(hits) / sum(queries), 4),
        prompt_tokens=sum(queries),
        imbalance=round(max(computed) / (sum(computed) / len(computed)), 3),
    )


def _locust(url: str, seed: int, load: Load, folder: Path) -> tuple[dict[str, str], int]:
    """Locust's row about TTFT, and how many requests failed."""
    environment = {
        "SLUICE_DOCUMENTS": str(load.documents),
        "SLUICE_FACTS": str(load.facts),
        "SLUICE_SEED": str(seed),
        "SLUICE_TURNS": str(load.turns),
        "SLUICE_MAX_TOKENS": str(load.answer_tokens),
        "SLUICE_THINK_SECONDS": str(load.think_seconds),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/routing/locust_documents.py")]
    command += ["--headless", "--host", url, "--users", str(load.users), "--spawn-rate", str(load.users)]
    command += ["--run-time", f"{load.seconds}s", "--stop-timeout", "20", "--csv", str(folder / "locust")]
    with (folder / "locust.log").open("wb") as log:
        done = subprocess.run(command, env=os.environ | environment, stdout=log, stderr=log, check=False)
    with (folder / "locust_stats.csv").open() as text:
        rows = {row["Name"]: row for row in csv.DictReader(text)}
    if "TTFT" not in rows:
        raise RuntimeError(
            f"locust ended with {done.returncode}: {(folder / 'locust.log').read_text()[-800:]}"
        )
    return rows["TTFT"], int(rows["/v1/chat/completions"]["Failure Count"])


def _median(runs: Sequence[Run]) -> dict[str, object]:
    figures = ("requests", "ttft_p50", "ttft_p90", "hit", "imbalance")
    failures = sum(run.failures for run in runs)
    return {
        "policy": runs[0].policy,
        "failures": failures,
        **{name: median(getattr(run, name) for run in runs) for name in figures},
    }


if __name__ == "__main__":
    typer.run(main)
