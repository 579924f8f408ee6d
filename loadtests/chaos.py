"""Load while workers are killed, hung and restarted: `python -m loadtests.chaos --minutes 3`.

One gateway process with its defaults but for shorter limits, three fake workers as processes of their own,
and clients that stream, do not stream, and leave halfway. The run fails if a request was lost without an
error, if a broken answer looked complete, if a counter is not zero afterwards, or if memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

TOKENS = 24
WORKERS = 3
LIMITS = {
    "SLUICE_RELAY__TIMEOUTS__CONNECT": "1",
    "SLUICE_RELAY__TIMEOUTS__FIRST_BYTE": "3",
    "SLUICE_RELAY__TIMEOUTS__SILENCE": "3",
    "SLUICE_RELAY__TIMEOUTS__QUEUE": "3",
    "SLUICE_RELAY__HEALTH__INTERVAL": "0.5",
    "SLUICE_RELAY__HEALTH__TIMEOUT": "0.5",
    "SLUICE_RELAY__HEALTH__BREAKER_OPEN_SECONDS": "0.5",
    "SLUICE_RELAY__HEALTH__BREAKER_OPEN_MAX": "2",
    "SLUICE_RELAY__ADMISSION__PER_WORKER": "24",
}
PATIENCE = 30.0
"""Seconds after which a client calls its request lost; every limit of the gateway is far below."""
RSS_GROWTH_MB = 12.0
WARM_UP = 0.3
"""Share of the run that memory may take to reach its level."""
_GAUGE = re.compile(
    r"^(sluice_(?:active_requests|queued_requests|worker_in_flight_requests)\S*) (\S+)$", re.MULTILINE
)


class Worker:
    """A fake engine as a process that is treated badly."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        flags = ["--port", str(self.port), "--itl", "0.01", "--prefill-base", "0.02", "--prefill-slots", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine_adapter.fake", *flags], stdout=subprocess.DEVNULL
        )

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Tally:
    """What the clients saw and what was done to the workers."""

    outcomes: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    """What no client may see, in words."""
    harm: Counter[str] = field(default_factory=Counter)
    rss_mb: list[float] = field(default_factory=list)

    def failures(self) -> list[str]:
        """Why the run is no success; empty if it is."""
        problems = [f"{len(self.lost)} requests were lost, e.g. {self.lost[:3]}"] if self.lost else []
        if self.outcomes["complete"] == 0:
            problems.append("not one request was answered")
        begin, end = self.memory()
        if end - begin > RSS_GROWTH_MB:
            problems.append(f"memory grew from {begin:.1f} to {end:.1f} MB")
        return problems

    def memory(self) -> tuple[float, float]:
        """Median RSS in MB after the warm-up, and at the end."""
        settled = self.rss_mb[int(len(self.rss_mb) * WARM_UP) :] or [0.0]
        third = max(1, len(settled) // 3)
        return median(settled[:third]), median(settled[-third:])


async def one_request(port: int, dice: random.Random, leaving: float = 0.15) -> tuple[str, str]:
    """Ask once; what came of it, and how if it must not happen. `leaving`: share that does not wait."""
    stream = dice.random() < 0.7
    body = json.dumps(
        {
            "model": "fake",
            "messages": [{"role": "user", "content": f"Tell me about number {dice.randrange(100)}."}],
            "max_tokens": TOKENS,
            "stream": stream,
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: chaos\r\ncontent-type: application/json\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        if dice.random() < leaving:
            await asyncio.sleep(dice.random() * 0.3)
            return "client left", ""
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read(-1)
    except TimeoutError:
        return "lost", f"no end within {PATIENCE:g} s"
    except ConnectionResetError:
        return "lost", "connection reset"
    finally:
        writer.close()
    return _verdict(answer, stream=stream)


def _verdict(answer: bytes, *, stream: bool) -> tuple[str, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        return "lost", f"no answer but {answer[:60]!r}"
    status = int(head[9:12])
    if status != 200:
        code = re.search(rb'"error":\{.*"code":"?(\w+)', body)
        return (f"{status} {code[1].decode()}", "") if code else ("lost", f"status {status} without an error")
    if not stream:
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        # A document that breaks off can only be cut: its length says so.
        return ("complete", "") if len(body) == length else ("document cut", "")
    ended, told = b"data: [DONE]\n\n" in body, b'data: {"error":' in body
    if not body.endswith(b"0\r\n\r\n"):
        return "lost", "a stream without its last chunk"
    if ended and body.count(b'"delta":{"content":"') < TOKENS:
        return "lost", "a stream that looks complete and is not"
    if not ended and not told:
        return "lost", "a stream that ends without a word"
    return ("complete", "") if ended else ("error in the stream", "")


async def _client(port: int, until: float, tally: Tally, seed: int) -> None:
    dice = random.Random(seed)
    while time.monotonic() < until:
        outcome, how = await one_request(port, dice)
        tally.outcomes[outcome] += 1
        if how:
            tally.lost.append(how)
        if outcome[0].isdigit():
            await asyncio.sleep(0.1)  # as clients do that were refused


async def _harm(workers: list[Worker], until: float, tally: Tally, seed: int) -> None:
    """Do something to a random worker every second or so, and make all of them well at the end."""
    dice = random.Random(seed)
    while (left := until - time.monotonic()) > 4.0:
        worker = dice.choice(workers)
        kind = dice.choice(("kill", "hang", "hang briefly", "terminate"))
        tally.harm[kind] += 1
        if kind in ("kill", "terminate"):
            worker.signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            worker.end()
            worker.start()
        else:
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(
                dice.uniform(1.0, min(5.0, left)) if kind == "hang" else dice.uniform(0.05, 0.5)
            )
            worker.signal(signal.SIGCONT)
        await asyncio.sleep(dice.uniform(0.2, 1.0))


async def _watch(gateway: subprocess.Popen[bytes], until: float, tally: Tally) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(0.25)
        tally.rss_mb.append(_rss_mb(gateway.pid))


def _rss_mb(pid: int) -> float:
    """Resident memory of a process tree in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resident + sum(_rss_mb(int(child)) for child in children)


async def _get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\nhost: chaos\r\n\r\n".encode())
    answer = (await reader.read(-1)).decode()
    writer.close()
    return int(answer[9:12]), answer


async def leaked(port: int, seconds: float = 10.0) -> list[str]:
    """Gauges that are not zero with nothing going on, once they have had `seconds` to become so."""
    deadline = time.monotonic() + seconds
    while True:
        _, text = await _get(port, "/metrics")
        gauges = _GAUGE.findall(text)
        if not gauges:
            return ["no gauge was found in /metrics"]
        wrong = [f"{name} is {value}" for name, value in gauges if float(value)]
        if not wrong or time.monotonic() > deadline:
            return wrong
        await asyncio.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


@contextmanager
def gateway_process(port: int, workers: list[Worker]) -> Iterator[subprocess.Popen[bytes]]:
    """`sluice serve` in front of `workers`, told to stop at the end."""
    urls = [flag for w in workers for flag in ("--worker-url", f"http://127.0.0.1:{w.port}")]
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--port", str(port), *urls],
            env={**os.environ, **LIMITS, "HOME": state, "XDG_STATE_HOME": state},
            stdout=subprocess.DEVNULL,
            stderr=(Path(state) / "log").open("wb"),
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def run(seconds: float, clients: int, seed: int) -> tuple[Tally, list[str]]:
    """One run; the tally and why it failed, if it did."""
    port, *worker_ports = free_ports(1 + WORKERS)
    workers = [Worker(p) for p in worker_ports]
    for worker in workers:
        worker.start()
    tally = Tally()
    try:
        with gateway_process(port, workers) as gateway:
            await _until_ready(port, gateway)
            until = time.monotonic() + seconds
            await asyncio.gather(
                _harm(workers, until, tally, seed),
                _watch(gateway, until, tally),
                *[_client(port, until, tally, seed * 1000 + n) for n in range(clients)],
            )
            problems = tally.failures() + await leaked(port)
        if gateway.returncode != 0:
            problems.append(f"the gateway ended with status {gateway.returncode}")
    finally:
        for worker in workers:
            worker.end()
    return tally, problems


async def _until_ready(port: int, gateway: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if gateway.poll() is not None:
            raise RuntimeError(f"the gateway ended with status {gateway.returncode}")
        try:
            outcome, _ = await one_request(port, random.Random(1), leaving=0)
        except OSError:
            outcome = ""
        if outcome == "complete":
            return
        await asyncio.sleep(0.2)
    raise RuntimeError("the gateway did not become ready")


def report(tally: Tally, seconds: float, problems: list[str]) -> str:
    """The run as a table for people."""
    total = sum(tally.outcomes.values())
    begin, end = tally.memory()
    lines = [f"{total} requests in {seconds:.0f} s ({total / seconds:.0f}/s)", ""]
    lines += [f"  {name:24} {count:8} {count / total:8.2%}" for name, count in tally.outcomes.most_common()]
    lines += ["", "what was done to workers:"]
    lines += [f"  {name:24} {count:8}" for name, count in tally.harm.most_common()]
    lines += ["", f"memory of the gateway: {begin:.1f} MB after warm-up, {end:.1f} MB at the end", ""]
    return "\n".join(lines + ([f"FAILED: {p}" for p in problems] or ["nothing lost, nothing leaked"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    tally, problems = asyncio.run(run(seconds, arguments.clients, arguments.seed))
    print(report(tally, seconds, problems))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
