"""Replays a trace over HTTP: fake engines as processes, a router in front of them, a client that keeps time.

Durations of the trace are divided by `speed` on the wall and multiplied back in what is reported. One
streamed event stands for EVENT_TOKENS tokens, so that decoding lasts as long as in the trace at a fraction of
the events: what is measured is where requests go, not what an event costs.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine_adapter.api import WorkerInfo
from loadtests.bench.process import Process
from loadtests.routing.simulate import Result, quantiles
from loadtests.routing.workload import BLOCK_TOKENS, SimRequest, Texts

MODEL = "bench"
TOKEN_BYTES = 4
"""The fake engine's tokenizer: four bytes each."""
EVENT_TOKENS = 16
SETTLE_S = 3.0
"""For routers that find their workers in the background."""
PATIENCE_S = 120.0
_COUNTER = re.compile(
    r"^vllm:(prefix_cache_queries|prefix_cache_hits)_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Replay:
    """What every router meets."""

    engines: int = 4
    cache_blocks: int = 4000
    prefill_tokens_per_s: float = 12_000.0
    itl_s: float = 0.02
    speed: float = 10.0


@dataclass(frozen=True, slots=True)
class Front:
    """A router: its processes' commands, and the ports that the client uses in turn."""

    commands: tuple[tuple[str, ...], ...]
    ports: tuple[int, ...]


MakeFront = Callable[[Sequence[WorkerInfo], Path], Front]
"""Given the workers and a folder of its own."""


def free_port() -> int:
    """A TCP port of the loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(requests: Sequence[SimRequest], replay: Replay, make: MakeFront) -> Result:
    """Start engines and router, replay, stop both. Times in seconds of the trace."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-replay-")))
        workers = stack.enter_context(_engines(replay, folder))
        front = make(workers, folder)
        for number, (command, port) in enumerate(zip(front.commands, front.ports, strict=True)):
            process = _started(stack, command, folder / f"router-{number}.log")
            process.wait_for(f"http://127.0.0.1:{port}/health")
        time.sleep(SETTLE_S)
        ttft = asyncio.run(_replay(requests, replay, front.ports))
        counters = [prefix_cache(worker.url) for worker in workers]
    answered = [seconds for seconds in ttft if seconds is not None]
    computed = [queries - hits for queries, hits in counters]
    return Result(
        requests=len(requests),
        success=len(answered) / max(1, len(requests)),
        **quantiles(answered),
        hit=sum(hits for _, hits in counters) / max(1.0, sum(queries for queries, _ in counters)),
        imbalance=max(computed) / (sum(computed) / len(computed) or 1.0),
    )


def _started(stack: ExitStack, command: Sequence[str], log: Path) -> Process:
    process = Process(command, core=None, log=log)
    stack.callback(process.stop)
    return process


@contextmanager
def _engines(replay: Replay, folder: Path) -> Iterator[list[WorkerInfo]]:
    with ExitStack() as stack:
        workers: list[WorkerInfo] = []
        processes: list[Process] = []
        for number in range(replay.engines):
            port = free_port()
            events, answers = (f"ipc://{folder}/{number}.{kind}" for kind in ("events", "replay"))
            command = [sys.executable, "-m", "gateway", "worker", "--engine", "fake", "--port", str(port)]
            command += ["--kv-events", events, "--kv-replay", answers, "--", "--model", MODEL]
            command += ["--num-blocks", str(replay.cache_blocks), "--block-size", str(BLOCK_TOKENS)]
            command += ["--prefill-rate", str(replay.prefill_tokens_per_s), "--speed", str(replay.speed)]
            command += ["--itl", str(EVENT_TOKENS * replay.itl_s)]
            processes.append(_started(stack, command, folder / f"engine-{number}.log"))
            workers.append(
                WorkerInfo(f"w{number}", f"http://127.0.0.1:{port}", kv_events=events, kv_replay=answers)
            )
        for worker, process in zip(workers, processes, strict=True):
            process.wait_for(f"{worker.url}/health")
        yield workers


def prefix_cache(url: str) -> tuple[float, float]:
    """Tokens that the engine looked up in its prefix cache, and tokens that it found there."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        counters = {name: float(value) for name, value in _COUNTER.findall(answer.read().decode())}
    return counters["prefix_cache_queries"], counters["prefix_cache_hits"]


async def _replay(requests: Sequence[SimRequest], replay: Replay, ports: Sequence[int]) -> list[float | None]:
    """Per request the seconds of the trace until its first event, None for one that failed."""
    texts = Texts(BLOCK_TOKENS * TOKEN_BYTES)
    tasks: list[asyncio.Task[float | None]] = []
    began = time.perf_counter()
    for number, request in enumerate(requests):
        body = _body(texts, request)
        early = request.at / replay.speed - (time.perf_counter() - began)
        if early > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(_ask(ports[number % len(ports)], body)))
    walls = await asyncio.gather(*tasks)
    return [None if wall is None else wall * replay.speed for wall in walls]


def _body(texts: Texts, request: SimRequest) -> bytes:
    tokens = max(1, round(request.output_tokens / EVENT_TOKENS))
    return b'{"model":"%s","stream":true,"ignore_eos":true,"max_tokens":%d,"messages":%s}' % (
        MODEL.encode(),
        tokens,
        texts.body(request.blocks),
    )


async def _ask(port: int, body: bytes) -> float | None:
    """Wall seconds to the first event of the answer; None unless the whole answer came."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            asked = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            try:
                writer.write(head + body)
                status = await reader.readuntil(b"\r\n\r\n")
                if b" 200 " not in status.partition(b"\r\n")[0]:
                    return None
                await reader.readuntil(b"data: {")
                first = time.perf_counter() - asked
                return first if b"data: [DONE]" in await reader.read(-1) else None
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
