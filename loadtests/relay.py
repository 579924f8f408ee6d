"""What the relay costs, beside nginx, in one run: `python -m loadtests.relay`.

The gateway runs on one core; the engines and the client share another. What travels between machines is the
gateway's own CPU time (user and system, its whole process tree) per request and per relayed event; latencies
only compare inside one run. Sluice runs with its defaults on: API-key check among 1,000 keys, routing over
four workers, metrics, request ids, access log. nginx balances over the same four, with keep-alive and no log.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gateway.access.keys import append_key, new_key
from loadtests.bench.client import Result
from loadtests.bench.process import Process

GATEWAY_CORE, OTHER_CORE = 0, 1
ENGINES = 4
KEYS = 1000


@dataclass(frozen=True)
class Load:
    """One row of the table."""

    name: str
    arguments: tuple[str, ...]
    itl_ms: float = 0.0
    stream: bool = False


LOADS = {
    "u1": Load("one connection, not streaming", ("--connections", "1", "--seconds", "4")),
    "u32": Load("32 connections, not streaming", ("--connections", "32", "--seconds", "6")),
    "s100": Load(
        "100 streams x 50 events/s",
        ("--stream", "--connections", "100", "--seconds", "8", "--tokens", "100"),
        itl_ms=20,
        stream=True,
    ),
    "s1000": Load(
        "1,000 streams x 20 events/s",
        ("--stream", "--connections", "1000", "--requests", "1000", "--seconds", "60", "--tokens", "200"),
        itl_ms=50,
        stream=True,
    ),
}


@dataclass
class Subject:
    """Something in front of the engines."""

    name: str
    port: int
    key: str
    command: list[str]
    folder: Path
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)
    start_seconds: float = 0.0
    start_rss_mb: float = 0.0
    end_rss_mb: float = 0.0


def free_port() -> int:
    """A port that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nginx(folder: Path, engines: list[int]) -> Subject:
    """nginx with one worker process, as a plain proxy."""
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{engine};" for engine in engines)
    config = folder / "nginx.conf"
    config.write_text(
        f"""worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0;
  client_body_temp_path {folder}; proxy_temp_path {folder};
  upstream engine {{ {servers} keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=8192;
    location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s; }} }} }}
"""
    )
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return Subject("nginx", port, "", [binary, "-p", str(folder), "-c", str(config), "-e", "stderr"], folder)


def sluice(folder: Path, engines: list[int]) -> Subject:
    """One gateway process that asks for API keys, of which there are many."""
    port = free_port()
    keys = folder / "keys.json"
    secret, first = new_key("bench")
    records = [first, *(new_key(f"key {i}")[1] for i in range(KEYS - 1))]
    append_key(keys, first)
    document = json.loads(keys.read_text())
    document["keys"] = [{"id": k.id, "name": k.name, "hash": k.hash} for k in records]
    keys.write_text(json.dumps(document))
    command = [sys.executable, "-m", "gateway", "serve", "--port", str(port), "--api-key-file", str(keys)]
    command += ["--state-dir", str(folder)]
    for engine in engines:
        command += ["--worker-url", f"http://127.0.0.1:{engine}"]
    return Subject("sluice", port, secret, command, folder)


def peer(folder: Path, name: str, command: str, engines: list[int]) -> Subject:
    """Another gateway: `command` with {port}, {engines} (URLs) and {spare} (a free port) filled in."""
    port = free_port()
    urls = " ".join(f"http://127.0.0.1:{engine}" for engine in engines)
    words = shlex.split(command.format(port=port, engines=urls, spare=free_port()))
    return Subject(name, port, "", words, folder)


@contextmanager
def running(subject: Subject) -> Iterator[Process]:
    """The subject on its core, until the block ends; start time and memory are noted."""
    process = Process(subject.command, core=GATEWAY_CORE, log=subject.folder / f"{subject.name}.log")
    try:
        subject.start_seconds = process.wait_for(f"http://127.0.0.1:{subject.port}/health")
        yield process
        subject.end_rss_mb = process.rss_mb()
    finally:
        process.stop()


@contextmanager
def engines(folder: Path, itl_ms: float) -> Iterator[list[int]]:
    """Canned engines, all on the client's core."""
    ports = [free_port() for _ in range(ENGINES)]
    command = [sys.executable, "-m", "loadtests.bench.engine", "--itl-ms", str(itl_ms), "--port"]
    processes = [Process([*command, str(p)], core=OTHER_CORE, log=folder / f"engine-{p}.log") for p in ports]
    try:
        for process, port in zip(processes, ports, strict=True):
            process.wait_for(f"http://127.0.0.1:{port}/health")
        yield ports
    finally:
        for process in processes:
            process.stop()


def load(port: int, key: str, arguments: tuple[str, ...]) -> Result:
    """One run of the load client, on the other core."""
    command = ["taskset", "-c", str(OTHER_CORE), sys.executable, "-m", "loadtests.bench.client"]
    command += ["--url", f"http://127.0.0.1:{port}", "--key", key, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the load client failed:\n{done.stderr[-800:]}")
    return Result(**json.loads(done.stdout))


def measure(process: Process, subject: Subject, name: str) -> None:
    """One load at one subject, with the CPU time that the subject spent on it."""
    spent = process.cpu_seconds()
    result = load(subject.port, subject.key, LOADS[name].arguments)
    spent = process.cpu_seconds() - spent
    row: dict[str, Any] = asdict(result)
    row["requests_per_s"] = result.requests_per_s
    row["cpu_us_per_request"] = spent / max(1, result.ok) * 1e6
    row["cpu_us_per_event"] = spent / result.events * 1e6 if result.events else None
    subject.loads[name] = row


def idle_streams(folder: Path, count: int) -> dict[str, float]:
    """Memory of the gateway while `count` streams are open and silent."""
    os.environ["SLUICE_RELAY__ADMISSION__PER_WORKER"] = str(count)
    with engines(folder, itl_ms=3_600_000) as ports:
        subject = sluice(folder, ports)
        with running(subject) as process:
            time.sleep(1.0)
            before = process.rss_mb()
            holder = subprocess.Popen(
                [sys.executable, "-m", "loadtests.bench.client", "--url", f"http://127.0.0.1:{subject.port}"]
                + ["--key", subject.key, "--stream", "--connections", str(count), "--seconds", "3600"]
            )
            try:
                deadline = time.monotonic() + 60
                open_files = 0
                while open_files < 2 * count and time.monotonic() < deadline:
                    time.sleep(0.25)
                    open_files = process.open_files()
                time.sleep(1.0)
                return {"streams": open_files // 2, "rss_mb_before": before, "rss_mb": process.rss_mb()}
            finally:
                holder.kill()
                holder.wait()


def table(subjects: list[Subject], direct: dict[str, dict[str, Any]]) -> str:
    """All figures as Markdown, subjects side by side."""
    names = " | ".join(s.name for s in subjects)
    lines = [f"| load | figure | direct | {names} | {subjects[-1].name} / {subjects[0].name} |"]
    lines.append("|---|---|---|" + "---|" * (len(subjects) + 1))
    figures = {
        False: ("cpu_us_per_request", "requests_per_s", "first_p50_ms", "first_p99_ms", "failed"),
        True: ("cpu_us_per_event", "first_p50_ms", "gap_p99_ms", "gap_max_ms", "failed"),
    }
    for name, one in LOADS.items():
        for figure in figures[one.stream]:
            values = [s.loads.get(name, {}).get(figure) for s in subjects]
            if all(v is None for v in values):
                continue
            straight = direct.get(name, {}).get(figure)
            cells = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in values]
            ratio = ""
            first, ours = values[0], values[-1]
            if figure.startswith(("cpu", "requests")) and first and ours and len(values) > 1:
                ratio = f"{ours / first:.2f}"
            shown = (
                f"{straight:.2f}"
                if isinstance(straight, float)
                else ""
                if straight is None
                else str(straight)
            )
            lines.append(f"| {one.name} | {figure} | {shown} | {' | '.join(cells)} | {ratio} |")
    lines += [
        f"\n{s.name}: answers /health {s.start_seconds:.2f} s after its start; "
        f"RSS {s.start_rss_mb:.0f} MB two seconds later, {s.end_rss_mb:.0f} MB after the load."
        for s in subjects
    ]
    webrtc = "is" if importlib.util.find_spec("aiortc") else "is not"
    lines.append(f"\nWebRTC {webrtc} installed where sluice runs.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(LOADS), help=f"loads of {', '.join(LOADS)}; - for none")
    parser.add_argument("--rounds", type=int, default=1, help="repeat, alternating, and keep the medians")
    parser.add_argument("--idle", type=int, default=0, help="also measure memory with so many silent streams")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another gateway beside; {port}, {engines} (URLs) and {spare} (a free port) are filled in",
    )
    a = parser.parse_args()
    names = [] if a.only == "-" else a.only.split(",")
    peers = dict(one.split("=", 1) for one in a.peer)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as temporary:
        folder = Path(temporary)
        rounds: list[tuple[list[Subject], dict[str, dict[str, Any]]]] = []
        for number in range(a.rounds if names else 0):
            print(f"round {number + 1} of {a.rounds}", file=sys.stderr)
            rounds.append(one_round(folder, names, peers))
        subjects, direct = medians(rounds) if rounds else ([], {})
        if subjects:
            print(table(subjects, direct))
        report: dict[str, Any] = {"direct": direct, **{s.name: s.loads for s in subjects}}
        if a.idle:
            report["idle"] = idle_streams(folder, a.idle)
            print(
                f"\n{report['idle']['streams']} silent streams: {report['idle']['rss_mb']:.0f} MB "
                f"(before: {report['idle']['rss_mb_before']:.0f} MB)"
            )
        if a.json:
            a.json.write_text(json.dumps(report, indent=1))


def one_round(
    folder: Path, names: list[str], peers: dict[str, str]
) -> tuple[list[Subject], dict[str, dict[str, Any]]]:
    """Every load at the engines themselves and at each subject in turn: subjects, and figures of none."""
    kept: dict[str, Subject] = {}
    direct: dict[str, dict[str, Any]] = {}
    for itl in sorted({LOADS[n].itl_ms for n in names}):
        group = [n for n in names if LOADS[n].itl_ms == itl]
        with engines(folder, itl) as ports:
            for name in group:
                result = load(ports[0], "", LOADS[name].arguments)
                direct[name] = {**asdict(result), "requests_per_s": result.requests_per_s}
            others = [peer(folder, name, command, ports) for name, command in peers.items()]
            for fresh in (nginx(folder, ports), *others, sluice(folder, ports)):
                subject = kept.setdefault(fresh.name, fresh)
                subject.port, subject.key, subject.command = fresh.port, fresh.key, fresh.command
                with running(subject) as process:
                    time.sleep(2.0)
                    subject.start_rss_mb = process.rss_mb()
                    load(subject.port, subject.key, ("--connections", "8", "--seconds", "1.5"))
                    for name in group:
                        print(f"  {subject.name}: {LOADS[name].name}", file=sys.stderr)
                        measure(process, subject, name)
    return list(kept.values()), direct


def medians(
    rounds: list[tuple[list[Subject], dict[str, dict[str, Any]]]],
) -> tuple[list[Subject], dict[str, dict[str, Any]]]:
    """The middle of every figure over the rounds."""
    subjects, direct = rounds[0]
    for index, subject in enumerate(subjects):
        same = [r[0][index].loads for r in rounds]
        subject.loads = _median_of(same)
    return subjects, _median_of([r[1] for r in rounds])


def _median_of(figures: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for name, row in figures[0].items():
        result[name] = {}
        for key in row:
            values = sorted(f[name][key] for f in figures if f[name][key] is not None)
            result[name][key] = values[len(values) // 2] if values else None
    return result


if __name__ == "__main__":
    main()
