"""From settings to the workers that have to run: where each listens, how it starts, where its log goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from engine_adapter.api import WorkerInfo
from engine_adapter.launch.command import FAKE_MODEL, Command, Endpoints, worker_command
from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.kv import KvSettings
from engine_adapter.launch.model import Model
from engine_adapter.launch.output import WorkerOutput
from engine_adapter.launch.ports import PortReservations
from engine_adapter.launch.settings import EngineSettings
from engine_adapter.launch.worker import WorkerPlan

LOOPBACK = "127.0.0.1"


def plan_workers(
    settings: EngineSettings,
    model: Model | None,
    *,
    hardware: Hardware,
    environment: Mapping[str, str],
    state_dir: Path,
    socket_dir: Path,
    ports: PortReservations,
    kv: KvSettings | None = None,
) -> list[WorkerPlan]:
    """A plan for each worker to start. Ports are taken from `ports` here and kept over restarts.

    `model` is None for fake engines. KV events go over ZMQ sockets in `socket_dir`, which only this user may
    enter: a TCP endpoint that vLLM binds would listen on every interface.
    """
    plans: list[WorkerPlan] = []
    has_layer = model is not None and hardware.gpus == 0 and kv is not None and kv.enabled
    for index in range(settings.started_workers):
        port = ports.take(LOOPBACK, settings.port_base)
        name = f"worker-{index}"
        socket = f"{socket_dir / name}"
        endpoints = Endpoints(
            LOOPBACK,
            port,
            kv_events=f"ipc://{socket}.events" if settings.kv_events else None,
            kv_replay=f"ipc://{socket}.replay" if settings.kv_events else None,
            kv_control=f"unix://{socket}.control" if has_layer else None,
        )
        plans.append(
            WorkerPlan(
                id=name,
                model=model.name if model else settings.served_name or settings.model or FAKE_MODEL,
                endpoints=endpoints,
                command=_command_of(settings, model, hardware, environment, index, kv),
                other_endpoints=_mover(ports),
                output=WorkerOutput(state_dir / "logs" / f"{name}.log"),
            )
        )
    return plans


def workers_elsewhere(settings: EngineSettings) -> list[WorkerInfo]:
    """The workers that somebody else runs, as the fleet file lists them."""
    return [
        WorkerInfo(id=f"remote-{n}", url=url, every_address=True)
        for n, url in enumerate(settings.worker_urls)
    ]


def _command_of(
    settings: EngineSettings,
    model: Model | None,
    hardware: Hardware,
    environment: Mapping[str, str],
    index: int,
    kv: KvSettings | None,
) -> Callable[[Endpoints], Command]:
    def command(endpoints: Endpoints) -> Command:
        return worker_command(settings, model, endpoints, hardware, environment, index, kv=kv)

    return command


def _mover(ports: PortReservations) -> Callable[[Endpoints], Endpoints]:
    def move(taken: Endpoints) -> Endpoints:
        port = ports.take(taken.host, taken.port + 1)
        ports.release(taken.port)
        return replace(taken, port=port)

    return move
