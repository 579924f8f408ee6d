"""The KV layer beside vLLM's own means: `python -m loadtests.kv_layer ttft` (saving, isolation, equality).

Real vLLM on a CPU, each phase in a fresh process, one request at a time unless said otherwise. Times are to
the first token, from handing the request to the engine; HTTP and tokenizing come on top for all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from engine_adapter.launch.model import SHIPPED_MODEL
from loadtests.kv import equality, ttft
from loadtests.kv.engine import BLOCK_TOKENS, engine, sluice
from loadtests.kv.lab import make_model
from loadtests.kv.ttft import Prompts, Times

MIB = 1 << 20


def in_new_process(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run a function of this package in a process that starts with it and ends after it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def compare_ttft(model: str, options: argparse.Namespace, scratch: Path) -> dict[str, Times]:
    """Medians of every way to have a prefix, one row each."""
    prompts = Prompts(tuple(options.lengths), options.prompts)
    memory = {"bytes": options.memory_mib * MIB}
    engine_options = {"kv_bytes": options.engine_mib * MIB}
    rows: dict[str, Times] = {}

    def note(name: str, times: Times) -> None:
        rows[name] = times
        shown = "  ".join(f"{n}: {statistics.median(t) * 1000:7.1f}" for n, t in times.items() if t)
        print(f"  {name:<38}{shown}", flush=True)

    def phase(function: Callable[..., Any], kv: Mapping[str, Any] | None, *more: Any) -> dict[str, Times]:
        found: dict[str, Times] = in_new_process(function, model, kv, prompts, *more, **engine_options)
        return found

    def again(name: str, kv: Mapping[str, Any]) -> None:
        """A new process on the prompts of the one before, and engine hits in turn with them."""
        found = phase(ttft.fresh, kv)
        note(name, found["layer"])
        note("  engine's prefix cache, in turns", found["engine"])
        lost = [n for n, tokens in found["cached"].items() if min(tokens) < n - 2 * BLOCK_TOKENS]
        if lost:
            print(f"    not all of the prompts of {lost} tokens were hits", flush=True)

    wanted = set(options.only or ["plain", "memory", "file", "valkey", "s3", "vllm", "example"])
    if "plain" in wanted:
        found = phase(ttft.cold_and_hits, None, options.repeats)
        note("vLLM, cold", found["cold"])
        note("vLLM, its own prefix cache", found["engine"])
    if wanted & {"memory", "file"}:
        files = sluice(memory=memory, file={"path": str(scratch / "files"), "bytes": 8 << 30})
        found = phase(ttft.cold_and_hits, files, options.repeats)
        note("Sluice, cold and saving", found["cold"])
        note("Sluice, engine's prefix cache", found["engine"])
        note("Sluice, memory", found["layer"])
        if "file" in wanted:
            again("Sluice, file, fresh process", files)
            place = files["kv_connector_extra_config"]["file"]
            refilled = sluice(memory=memory | {"refill": 0.5}, file=place)
            again("Sluice, fresh process, refilled", refilled)
    if "valkey" in wanted:
        with valkey() as url:
            shared = sluice(memory=memory, valkey={"url": url})
            phase(ttft.cold_and_hits, shared, 0)
            again("Sluice, valkey, other worker", shared)
    if "s3" in wanted:
        with object_store() as endpoint:
            place = {"url": "s3://sluice-kv", "endpoint": endpoint, "link": {"write": "through"}}
            shared = sluice(memory=memory, object=place)
            phase(ttft.cold_and_hits, shared, 0)
            again("Sluice, S3, other worker", shared)
    if "vllm" in wanted:
        tiers = ttft.offloading(options.memory_mib * MIB, str(scratch / "vllm"))
        found = phase(ttft.cold_and_hits, tiers, options.repeats)
        note("vLLM offloading, cold and saving", found["cold"])
        note("vLLM offloading, memory", found["layer"])
        again("vLLM offloading, file, fresh process", tiers)
    if "example" in wanted:
        files = ttft.example(str(scratch / "example"))
        phase(ttft.cold_and_hits, files, 0)
        again("vLLM ExampleConnector, fresh process", files)
    return rows


def compare_saving(model: str, options: argparse.Namespace, scratch: Path) -> dict[str, Times]:
    """What saving costs a prefill: with and without, in turns."""
    prompts = Prompts(tuple(options.lengths), options.prompts)
    kv = sluice(
        memory={"bytes": options.memory_mib * MIB},
        **({"file": {"path": str(scratch / "files"), "bytes": 8 << 30}} if options.file else {}),
    )
    found: dict[str, Times] = in_new_process(
        ttft.saving, model, kv, prompts, kv_bytes=options.engine_mib * MIB
    )
    for length in prompts.lengths:
        on, off = (statistics.median(found[name][length]) for name in ("on", "off"))
        cpu_on, cpu_off = (statistics.median(found[name][length]) for name in ("cpu on", "cpu off"))
        print(
            f"  {length}: {off * 1000:.1f} ms without, {on * 1000:.1f} with: {100 * (on / off - 1):+.1f} %; "
            f"processor time {100 * (cpu_on / cpu_off - 1):+.1f} %",
            flush=True,
        )
    return found


def compare_isolation(model: str, options: argparse.Namespace, scratch: Path) -> dict[str, Times]:
    """Can a tenant tell by the time to the first token what another one has asked?"""
    prompts = Prompts(tuple(options.lengths), options.prompts)
    kv = sluice(memory={"bytes": options.memory_mib * MIB})
    found: dict[str, Times] = in_new_process(
        ttft.isolation, model, kv, prompts, kv_bytes=options.engine_mib * MIB
    )
    for length in prompts.lengths:
        print(f"  {length} tokens, quartiles of {options.prompts}:", end="")
        for name, times in found.items():
            low, middle, high = (1000 * t for t in statistics.quantiles(times[length], n=4))
            print(f"  {name} {low:.1f} {middle:.1f} {high:.1f} ms", end="")
        print(flush=True)
    return found


def check_equality(model: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Answers under stress against the engine's own prefix cache, float32."""
    work = equality.workload(options.prompts, options.seed, options.longest, options.answer_tokens)
    found: dict[str, Any] = in_new_process(_equality, model, work, options, str(scratch / "files"))
    print(json.dumps(found, indent=1))
    return found


def _equality(model: str, work: equality.Workload, options: argparse.Namespace, files: str) -> dict[str, Any]:
    started = time.perf_counter()
    with engine(model, dtype="float32", kv_bytes=2 << 30) as running:
        expected = equality.reference(running, work)
    kv = sluice(
        memory={"bytes": options.memory_mib * MIB, "prefault": False},
        file={"path": files, "bytes": options.file_mib * MIB},
    )
    arguments = {"dtype": "float32", "max_num_seqs": options.at_once, "max_num_batched_tokens": 512}
    with engine(model, kv=kv, kv_bytes=options.engine_mib * MIB, **arguments) as running:
        outcome = equality.stress(
            running, work, expected, rounds=options.rounds, at_once=options.at_once, seed=options.seed
        )
        left = equality.leftovers(running)
        evictions = {name: tier.counters.evictions for name, tier in running.store.stats().tiers.items()}
    return {
        "prompts": len(work.prompts),
        "compared": outcome.compared,
        "differing": outcome.differing,
        "aborted": outcome.aborted,
        "preemptions": outcome.preemptions,
        "prefix cache emptied": outcome.resets,
        "prompt tokens": dict(outcome.sources),
        "evicted chunks": evictions,
        "left over": list(left),
        "seconds": round(time.perf_counter() - started, 1),
    }


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """A Valkey or Redis server of this machine, on a free port; its URL."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise SystemExit("install valkey-server or redis-server, or leave valkey out with --only")
    port = _free_port()
    flags = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    with _running([program, *flags], port):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def object_store() -> Iterator[str]:
    """An S3 server in a process of its own with a bucket `sluice-kv`; its endpoint."""
    port = _free_port()
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        import boto3

        endpoint = f"http://127.0.0.1:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="sluice-kv")
        yield endpoint


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


COMMANDS: dict[str, Callable[[str, argparse.Namespace, Path], dict[str, Any]]] = {
    "ttft": compare_ttft,
    "saving": compare_saving,
    "isolation": compare_isolation,
    "equality": check_equality,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtests.kv_layer", description=__doc__)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--model", help="a directory; default: the shipped model")
    parser.add_argument(
        "--parameters", type=float, help="a random-weight Llama of this size instead, e.g. 80e6"
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 2000, 3500])
    parser.add_argument("--prompts", type=int, default=5, help="per length")
    parser.add_argument("--repeats", type=int, default=3, help="of every hit")
    parser.add_argument(
        "--only", nargs="+", help="rows of the comparison: plain memory file valkey s3 vllm example"
    )
    parser.add_argument("--memory-mib", type=int, default=1024, help="the KV layer's memory")
    parser.add_argument("--engine-mib", type=int, default=512, help="the engine's own KV cache")
    parser.add_argument("--file", action="store_true", help="saving: with a file tier")
    parser.add_argument("--file-mib", type=int, default=256, help="equality: the file tier")
    parser.add_argument("--longest", type=int, default=2000, help="equality: the longest prompt")
    parser.add_argument("--answer-tokens", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-kv-") as directory:
        scratch = Path(directory)
        model = options.model or str(SHIPPED_MODEL)
        if options.parameters:
            model = in_new_process(make_model, scratch / "model", options.parameters)
        print(f"{options.what}: {Path(model).name}, load average {os.getloadavg()[0]:.1f}", flush=True)
        found = COMMANDS[options.what](model, options, scratch)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
