"""One supervised worker: its lifecycle, its process, its health probe."""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from engine_adapter.api import WorkerInfo
from engine_adapter.launch.causes import diagnose
from engine_adapter.launch.command import Command, Endpoints
from engine_adapter.launch.lifecycle import Action, Kill, Lifecycle, Spawn
from engine_adapter.launch.output import WorkerOutput
from engine_adapter.launch.ports import group_listens
from engine_adapter.launch.probe import HealthProbe
from engine_adapter.launch.process import signal_group, spawn
from engine_adapter.launch.settings import SupervisionSettings

STARTING_PROBE_INTERVAL = 0.25
"""Seconds between probes of a worker that is not ready yet: a refused connection costs nothing."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What the supervisor needs to know to run a worker."""

    id: str
    model: str
    endpoints: Endpoints
    command: Callable[[Endpoints], Command]
    other_endpoints: Callable[[Endpoints], Endpoints]
    """Where to listen instead, after the ports given turned out to be taken."""
    output: WorkerOutput


@dataclass(slots=True, eq=False)
class SupervisedWorker:
    """Carries out what its lifecycle decides. Not thread-safe; belongs to one supervisor."""

    plan: WorkerPlan
    settings: SupervisionSettings
    endpoints: Endpoints
    life: Lifecycle
    process: subprocess.Popen[bytes] | None = None
    probe: HealthProbe | None = None
    next_probe: float = math.inf
    started_at: float = 0.0
    ever_ready: bool = False
    kv_layer: str = ""

    @classmethod
    def of(cls, plan: WorkerPlan, settings: SupervisionSettings) -> SupervisedWorker:
        return cls(plan, settings, plan.endpoints, Lifecycle(settings))

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def deadline(self) -> float:
        """When it wants to be looked at next."""
        probe = self.probe.deadline if self.probe else self.next_probe
        return min(self.life.deadline, probe)

    def info(self) -> WorkerInfo:
        """The worker as the fleet file shows it."""
        life = self.life
        message = life.message
        if life.state == "starting":
            message = f"the model is loading: {self.plan.output.phase()}"
        elif life.state == "ready" and self.kv_layer.startswith("off"):
            message = message or f"without KV layer: {self.kv_layer.removeprefix('off: ')}"
        return WorkerInfo(
            id=self.plan.id,
            url=self.endpoints.url,
            model=self.plan.model,
            state=life.state,
            message=message,
            generation=life.generation,
            kv_events=self.endpoints.kv_events,
            kv_replay=self.endpoints.kv_replay,
            kv_control=self.endpoints.kv_control,
            log=str(self.plan.output.log),
            kv_layer=self.kv_layer,
        )

    def carry_out(self, actions: list[Action], now: float) -> None:
        """Do what the lifecycle asks for."""
        for action in actions:
            match action:
                case Spawn(other_ports=other_ports):
                    self._spawn(now, other_ports)
                case Kill(signal=number) if self.process is not None:
                    signal_group(self.process.pid, number)

    def reaped(self, status: int, now: float) -> None:
        """Its process ended with `status` (negative: by a signal)."""
        if self.process is None:
            return
        # Whatever it started (the engine process) must not go on without it.
        signal_group(self.process.pid, signal.SIGKILL)
        self.process.returncode = status
        self.process = None
        self.drop_probe()
        self.next_probe = math.inf
        self.carry_out(self.life.exited(now, diagnose(self.plan.output.lines(), status)), now)

    def begin_probe(self, now: float) -> HealthProbe | None:
        """Start a health probe if one is due and can be sent."""
        if self.process is None or self.probe is not None or now < self.next_probe:
            return None
        probe = HealthProbe(self.endpoints.host, self.endpoints.port, now + self.settings.probe_timeout)
        if probe.refused:
            probe.close()
            self._schedule_probe(now)
            return None
        self.probe = probe
        return probe

    def end_probe(self, healthy: bool, now: float) -> None:
        """The running probe has its answer, or its time is up."""
        self.drop_probe()
        if healthy and self._is_it():
            if self.life.state == "starting":
                self.kv_layer = self.plan.output.kv_layer()
            self.life.answered(now)
            self.ever_ready = self.ever_ready or self.life.state == "ready"
        self._schedule_probe(now)

    def drop_probe(self) -> None:
        if self.probe is not None:
            self.probe.close()
            self.probe = None

    def _is_it(self) -> bool:
        """Did our process answer, rather than a stranger on its port? Asked until it is ready."""
        if self.life.state != "starting" or self.process is None:
            return True
        return group_listens(self.process.pid, self.endpoints.port)

    def _schedule_probe(self, now: float) -> None:
        starting = self.life.state == "starting"
        self.next_probe = now + (STARTING_PROBE_INTERVAL if starting else self.settings.probe_interval)

    def _spawn(self, now: float, other_ports: bool) -> None:
        if other_ports:
            self.endpoints = self.plan.other_endpoints(self.endpoints)
        self.plan.output.mark()
        self.kv_layer = ""
        self.process = spawn(self.plan.command(self.endpoints), self.plan.output.log)
        self.started_at = now
        self.next_probe = now
