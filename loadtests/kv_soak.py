"""A soak of the KV layer under real vLLM: `python -m loadtests.kv_soak --minutes 4`.

Packed memory, files, Valkey and S3, each a real one and each behind the fault wrapper, under one engine in
float32 whose answers are compared with those of an engine without the layer (`loadtests.kv.soak`). Exits
with 1 and says why if an answer differs, something is left held, memory, descriptors or threads grow, a kind
of damage shows in no counter, or a request does not end. Tiers whose server is not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine_adapter.launch.model import SHIPPED_MODEL
from loadtests.bench.kv_servers import ACCESS, SECRET, ServerMissing, s3, valkey
from loadtests.kv import equality
from loadtests.kv.engine import engine, sluice
from loadtests.kv.soak import Report, soak
from loadtests.kv_layer import in_new_process

MIB = 1 << 20
BUCKET = "kv"
HARMED = {"failures_to_open": 4, "retry_seconds": 0.5, "timeout_seconds": 5.0}
"""A link that soon gives its tier another chance: most of the soak would pass before an open circuit else."""


def reference(model: str, work: equality.Workload) -> dict[str, tuple[int, ...]]:
    """Answers of an engine without KV layer, each from its own prefix cache."""
    with engine(model, dtype="float32", kv_bytes=1 << 30) as running:
        return equality.reference(running, work)


@contextlib.contextmanager
def tiers(scratch: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Settings of a KV layer with every tier that can be had here, all of them too small."""
    lossless = {"codec": "lossless", "write": "back", **HARMED}
    settings: dict[str, Any] = {
        "memory": {"bytes": options.memory_mib * MIB, "pack": {"bytes": 16 * MIB, "link": lossless}},
        "file": {"path": str(scratch / "files"), "bytes": options.file_mib * MIB, "link": HARMED},
        "tenants": {"acme": options.memory_mib * MIB // 3},
        "miss_memory_seconds": 0.2,
    }
    with contextlib.ExitStack() as servers:
        with contextlib.suppress(ServerMissing):
            (scratch / "valkey").mkdir()
            flags = ("--maxmemory", f"{options.valkey_mib}mb", "--maxmemory-policy", "allkeys-lru")
            url = servers.enter_context(valkey(scratch / "valkey", *flags))
            settings["valkey"] = {"url": url, "link": HARMED}
        with contextlib.suppress(ServerMissing):
            (scratch / "s3").mkdir()
            os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
            endpoint = servers.enter_context(s3(scratch / "s3", BUCKET))
            place = {"url": f"s3://{BUCKET}/soak", "endpoint": endpoint, "region": "us-east-1"}
            settings["object"] = {**place, "link": {"write": "back", **HARMED}}
        yield settings


def show(report: Report) -> None:
    """The tables of a report."""
    outcome = report.outcome
    print(
        f"{report.seconds:.0f} s, {report.rounds} rounds: {outcome.compared} answers compared, "
        f"{len(outcome.differing)} differ; {outcome.aborted} aborted, {outcome.preemptions} preemptions, "
        f"prefix cache emptied {outcome.resets} times; the longest request took "
        f"{outcome.longest_seconds:.1f} s"
    )
    print(f"prompt tokens: {dict(outcome.sources)}")
    print(f"commands: {report.commands}")
    print(
        f"bits flipped in memory: {report.flipped_slots}, noticed at a load {report.damaged_slots}; copies "
        f"into pages that failed: {report.failed_loads}, blocks computed instead {report.failed_blocks}"
    )
    for name in report.saves:
        print(
            f"{name}: {report.saves[name]} saved, {report.loads[name]} loaded, "
            f"{report.evictions[name]} evicted"
        )
        if name in report.mischief:
            print(f"    done to it: {_counts(report.mischief[name])}")
            print(f"    it told:    {_counts(report.faults[name])}")
    first, half, last = (report.samples[n] for n in (0, len(report.samples) // 2, -1))
    for what in (
        "resident_mib",
        "malloc_mib",
        "malloc_idle_mib",
        "python_blocks",
        "descriptors",
        "threads",
        "known_chunks",
    ):
        figures = ", ".join(f"{getattr(one, what):.0f} at {one.seconds:.0f} s" for one in (first, half, last))
        print(f"{what.replace('_', ' ')}: {figures}")
    for room, nbytes in sorted(report.grown.items(), key=lambda item: -item[1])[:15]:
        print(f"grew in the second half: {room} {nbytes / 1024:.0f} KiB")
    for problem in report.problems():
        print(f"WRONG: {problem}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()) if count) or "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtests.kv_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--model", default=str(SHIPPED_MODEL), help="a directory; default: the shipped model")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--longest", type=int, default=1500, help="tokens of the longest prompt")
    parser.add_argument("--answer-tokens", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--engine-mib", type=int, default=32, help="the engine's own KV cache")
    parser.add_argument("--memory-mib", type=int, default=48)
    parser.add_argument("--file-mib", type=int, default=64)
    parser.add_argument("--valkey-mib", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="say whose Python objects grow; slow")
    parser.add_argument("--json", type=Path, help="write the whole report there")
    options = parser.parse_args()
    work = equality.workload(options.prompts, options.seed, options.longest, options.answer_tokens)
    print(f"soak: {Path(options.model).name}, load average {os.getloadavg()[0]:.1f}", flush=True)
    expected = in_new_process(reference, options.model, work)
    with (
        tempfile.TemporaryDirectory(prefix="sluice-soak-") as directory,
        tiers(Path(directory), options) as settings,
    ):
        report: Report = in_new_process(
            soak,
            options.model,
            sluice(**settings),
            work,
            expected,
            seconds=options.minutes * 60,
            seed=options.seed,
            at_once=options.at_once,
            trace=options.trace,
            dtype="float32",
            kv_bytes=options.engine_mib * MIB,
            max_num_seqs=options.at_once,
            max_num_batched_tokens=512,
            max_model_len=2048,
        )
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report.plain(), indent=1))
    sys.exit(1 if report.problems() else 0)


if __name__ == "__main__":
    main()
