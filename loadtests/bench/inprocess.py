"""Where the microseconds of the relay go, without sockets: `python -m loadtests.bench.inprocess`.

Drives the real `Front`, `Exchange`, `Router` and `UpstreamConnection` with transports that do nothing, so
that what is left is our own Python. Figures are of warm code in a tight loop; between system calls the same
code takes two to three times as long. Times of a stage include the stages below it and a fifth of a
microsecond for looking at the clock.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import uvicorn
import uvloop

from engine_adapter.api import WorkerInfo
from gateway.access.keys import KeyRing, append_key, new_key
from gateway.relay.accounting import Accounting
from gateway.relay.attempt import Attempt
from gateway.relay.breaker import Breakers
from gateway.relay.call import Admitter
from gateway.relay.ending import BATCH, Endings
from gateway.relay.exchange import Exchange
from gateway.relay.front import Front
from gateway.relay.relay import Relay
from gateway.relay.settings import RelaySettings
from gateway.relay.upstream import UpstreamConnection
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from loadtests.bench.client import payload
from loadtests.bench.engine import STREAM, TOKENS, UNARY

STAGES: tuple[tuple[type, str, str], ...] = (
    (Front, "data_received", "client bytes to worker bytes, all of it"),
    (Admitter, "admit", "JSON, aliases, headers"),
    (Router, "assign", "routing over four workers"),
    (Attempt, "send", "head, write"),
    (UpstreamConnection, "data_received", "worker bytes to client bytes, all of it"),
    (Exchange, "answer_whole", "head, Server-Timing, write; and the end: places, connection"),
    (Endings, "settle", f"{BATCH} ended requests: usage, accounting, what the router learns"),
)


class _Transport:
    """Takes everything, does nothing."""

    def write(self, data: bytes) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    def set_write_buffer_limits(self, **limits: int) -> None: ...
    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


async def _no_app(scope: Any, receive: Any, send: Any) -> None: ...


def _cheapest(call: Callable[[], object], calls: int) -> float:
    """Microseconds of CPU of one call, in the best of several rounds."""
    best = float("inf")
    for _ in range(15):
        start = time.process_time_ns()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time_ns() - start) / calls / 1e3)
    return best


async def _measure(folder: Path) -> None:
    secret, record = new_key("bench")
    append_key(folder / "keys.json", record)
    fleet = Fleet()
    fleet.update([WorkerInfo(f"w{n}", f"http://127.0.0.1:{9000 + n}", "bench") for n in range(4)])
    settings = RelaySettings()
    relay = Relay(
        settings,
        fleet,
        Router(fleet),
        Breakers(fleet, settings.health),
        Accounting(),
        KeyRing(folder / "keys.json"),
    )
    config = uvicorn.Config(_no_app, loop="none", interface="asgi3")
    config.load()
    front = Front(relay, config=config, server_state=uvicorn.server.ServerState(), app_state={})
    front.connection_made(_Transport())  # type: ignore[arg-type]
    for worker in fleet:
        worker.health = "ready"
        connection = UpstreamConnection(worker, 1 << 20)
        connection.connection_made(_Transport())  # type: ignore[arg-type]
        relay.pool.give_back(connection, relay.now())
    request = payload("http://127.0.0.1", stream=False, tokens=64, prompt_bytes=400, key=secret)

    def worker_of() -> UpstreamConnection:
        assert front.exchange is not None and front.exchange.attempt is not None
        assert front.exchange.attempt.connection is not None
        return front.exchange.attempt.connection

    def whole() -> None:
        front.data_received(request)
        worker_of().data_received(UNARY)

    print(f"{_cheapest(whole, 8 * BATCH):6.1f} us  a request that does not stream, 1 kB")
    spent: defaultdict[str, list[int]] = defaultdict(list)
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in STAGES]
    for owner, name, original in originals:

        def timed(*args: Any, _call: Any = original, _into: list[int] = spent[f"{owner}.{name}"]) -> Any:
            start = time.perf_counter_ns()
            try:
                return _call(*args)
            finally:
                _into.append(time.perf_counter_ns() - start)

        setattr(owner, name, timed)
    for _ in range(3000):
        whole()
    for owner, name, what in STAGES:
        print(f"{median(spent[f'{owner}.{name}']) / 1e3:6.1f} us    {what}  ({owner.__name__}.{name})")
    for owner, name, original in originals:
        setattr(owner, name, original)
    front.data_received(payload("http://127.0.0.1", stream=True, tokens=64, prompt_bytes=400, key=secret))
    connection = worker_of()
    connection.data_received(STREAM + TOKENS[0])
    connection.data_received(TOKENS[1])
    print(f"{_cheapest(lambda: connection.data_received(TOKENS[2]), 2000):6.2f} us  an event of a stream")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(_measure(Path(folder)))


if __name__ == "__main__":
    main()
