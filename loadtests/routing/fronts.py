"""Routers as processes: `sluice serve`, one or several side by side, and the real sglang-router."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from engine_adapter.api import WorkerInfo, write_fleet
from loadtests.routing.replay import Front, MakeFront, free_port


def sluice(*flags: str, gateways: int = 1, peers: bool = False, kv_events: bool = False) -> MakeFront:
    """`gateways` processes that know nothing of each other, or tell each other what they route (`peers`).

    `kv_events`: the gateway is told where the workers publish theirs.
    """

    def make(workers: Sequence[WorkerInfo], folder: Path) -> Front:
        ports = tuple(free_port() for _ in range(gateways))
        endpoints = [f"tcp://127.0.0.1:{free_port()}" for _ in range(gateways)]
        secret = folder / "peers.secret"
        secret.write_text(secrets.token_hex(32))
        secret.chmod(0o600)
        shown = workers if kv_events else [WorkerInfo(w.id, w.url) for w in workers]
        commands: list[tuple[str, ...]] = []
        for number, port in enumerate(ports):
            state = folder / f"gateway-{number}"
            state.mkdir()
            fleet, config = state / "workers.json", state / "sluice.yaml"
            write_fleet(fleet, list(shown))
            text = f"engine: {{fleet_file: {fleet}}}\n"
            if peers:
                others = [endpoint for endpoint in endpoints if endpoint != endpoints[number]]
                text += (
                    f"peers: {{listen: '{endpoints[number]}', connect: {others}, secret_file: {secret}}}\n"
                )
            config.write_text(text)
            command = [sys.executable, "-m", "gateway", "serve", "--port", str(port), "--config", str(config)]
            commands.append((*command, "--state-dir", str(state), *flags))
        return Front(tuple(commands), ports)

    return make


def sglang_router(program: str, policy: str) -> MakeFront:
    """The real one, with its launcher's defaults."""

    def make(workers: Sequence[WorkerInfo], folder: Path) -> Front:
        port = free_port()
        command = [program, "launch", "--host", "127.0.0.1", "--port", str(port), "--policy", policy]
        command += ["--prometheus-port", str(free_port()), "--worker-urls", *(w.url for w in workers)]
        return Front((tuple(command),), (port,))

    return make
