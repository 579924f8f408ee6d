"""What kept streams cost, by the path that they are read on: `python -m loadtests.streams`.

First in one process, without sockets: an event that is relayed while nothing is kept, while keeping is
possible and not asked for, and while it is kept. Then a gateway on a core of its own before canned engines
that say 50 tokens a second per stream, read as a plain stream, as a kept one, by GET, and over data channels
(one call per stream). CPU is the gateway's own, of its whole process tree, in a window in which every stream
runs.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from engine_adapter.api import WorkerInfo
from gateway.relay.accounting import Accounting
from gateway.relay.breaker import Breakers
from gateway.relay.front import Front
from gateway.relay.relay import Relay
from gateway.relay.settings import RelaySettings
from gateway.relay.upstream import UpstreamConnection
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.transport.settings import StreamSettings
from gateway.transport.streams import Streams
from loadtests.bench.client import payload
from loadtests.bench.engine import STREAM, TOKENS
from loadtests.bench.inprocess import _cheapest, _no_app, _Transport
from loadtests.bench.process import Process
from loadtests.relay import GATEWAY_CORE, OTHER_CORE, engines, free_port

ITL_MS = 20.0
SETTINGS = """
realtime:
  calls: 4096
  calls_per_key: 4096
  half_open: 4096
  half_open_per_key: 4096
  offers_per_second: 1000
  offers_burst: 4096
streams:
  running_per_key: 4096
"""


async def in_process() -> dict[str, float]:
    """Microseconds of CPU per relayed event, in the best of several rounds."""
    fleet = Fleet()
    fleet.update([WorkerInfo("w0", "http://127.0.0.1:9000", "bench")])
    settings = RelaySettings()
    relay = Relay(settings, fleet, Router(fleet), Breakers(fleet, settings.health), Accounting())
    config = uvicorn.Config(_no_app, loop="none", interface="asgi3")
    config.load()
    streams = Streams(StreamSettings(), relay)
    found = {}
    for name, possible, header in (
        ("relayed, nothing can be kept", False, b""),
        ("relayed, not asked to be kept", True, b""),
        ("kept", True, b"x-sluice-stream: resumable\r\n"),
    ):
        relay.open_logged = streams.open if possible else None
        front = Front(relay, config=config, server_state=uvicorn.server.ServerState(), app_state={})
        front.connection_made(_Transport())  # type: ignore[arg-type]
        for worker in fleet:
            worker.health, worker.models = "ready", ("bench",)
            connection = UpstreamConnection(worker, 1 << 20)
            connection.connection_made(_Transport())  # type: ignore[arg-type]
            relay.pool.give_back(connection, relay.now())
        request = payload("http://127.0.0.1", stream=True, tokens=64, prompt_bytes=400, key="none")
        front.data_received(request.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n", 1))
        assert front.exchange is not None and front.exchange.attempt is not None
        connection = front.exchange.attempt.connection
        assert connection is not None
        connection.data_received(STREAM + TOKENS[0])
        connection.data_received(TOKENS[1])
        found[name] = _cheapest(lambda c=connection: c.data_received(TOKENS[2]), 2000)  # type: ignore[misc]
        front.connection_lost(None)
    for exchange in list(relay.exchanges):
        exchange.client_gone("drained")
    return found


def measure(folder: Path, ports: list[int], how: str, streams: int, seconds: float) -> dict[str, Any]:
    """One row: the gateway's CPU while `streams` streams are read as `how` says."""
    port = free_port()
    settings = folder / "sluice.yaml"
    settings.write_text(SETTINGS)
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(settings), "--port", str(port)]
    command += ["--state-dir", str(folder / f"state-{port}"), "--log-level", "warning"]
    for engine in ports:
        command += ["--worker-url", f"http://127.0.0.1:{engine}"]
    gateway = Process(command, core=GATEWAY_CORE, log=folder / f"gateway-{how}-{streams}.log")
    try:
        gateway.wait_for(f"http://127.0.0.1:{port}/health")
        time.sleep(1.0)
        ready = folder / f"ready-{port}"
        client = ["taskset", "-c", str(OTHER_CORE), sys.executable, "-m", "loadtests.bench.stream_client"]
        client += ["--url", f"http://127.0.0.1:{port}", "--how", how, "--streams", str(streams)]
        client += ["--seconds", str(seconds), "--tokens", "30000", "--ready", str(ready)]
        with subprocess.Popen(client, stdout=subprocess.PIPE, text=True) as running:
            while not ready.exists() and running.poll() is None:
                time.sleep(0.002)
            before = gateway.cpu_seconds()
            while not ready.with_suffix(".done").exists() and running.poll() is None:
                time.sleep(0.002)
            spent = gateway.cpu_seconds() - before
            output, _ = running.communicate()
        window = json.loads(output)
        share = spent / window["seconds"]
        rate = window["events"] / window["seconds"] / streams
        return {
            "how": how,
            "streams": streams,
            "tokens_per_s": rate,
            "us_per_token": spent / window["events"] * 1e6,
            "core": share,
            "streams_per_core": streams * (rate / 50.0) / share,
            "tokens_per_packet": window["events"] / window["packets"] if window["packets"] else None,
            "late": window["late"],
            "failed": window["failed"],
            "client_core": window["client_core"],
            "rss_mb": gateway.rss_mb(),
        }
    finally:
        gateway.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--how", nargs="*", default=["plain", "post", "get", "eloquent"])
    parser.add_argument("--streams", type=int, nargs="*", default=[20, 60])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path, help="Write the figures here too.")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a time limit leaves no process behind
    events = uvloop.run(in_process())
    for name, microseconds in events.items():
        print(f"{microseconds:6.2f} us  an event, {name}")
    rows = []
    print("how        streams  tok/s  us/token   core  streams/core  tokens/packet  late  failed  client RSS")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with engines(folder, ITL_MS) as ports:
            for how in asked.how:
                for streams in asked.streams:
                    row = measure(folder, ports, how, streams, asked.seconds)
                    rows.append(row)
                    packets = f"{row['tokens_per_packet']:.1f}" if row["tokens_per_packet"] else "-"
                    print(
                        f"{how:10} {streams:7} {row['tokens_per_s']:6.1f} {row['us_per_token']:9.1f} "
                        f"{row['core']:6.0%} {row['streams_per_core']:13.0f} {packets:>14} "
                        f"{row['late']:5} {row['failed']:7} {row['client_core']:7.0%} {row['rss_mb']:4.0f}",
                        flush=True,
                    )
    if asked.json is not None:
        asked.json.write_text(json.dumps({"events": events, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
