"""What the probes of a worker add up to, and what a failed one means in words. No I/O here."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import httpx

from engine_adapter.api import WorkerInfo
from gateway.routing.fleet import Worker

FAST_INTERVAL = 0.25
"""Seconds between probes of a worker that is not (safely) ready, so that it is used as soon as it can be."""
FAST_FOR = 120.0
"""Seconds after which a worker that stays down is probed at the ordinary interval."""


DOWN = frozenset(("backoff", "failed", "stopped"))
"""States in which the supervisor knows that there is no process to ask."""
_SUPERVISED = {
    "starting": "loading the model (process is up)",
    "backoff": "its process died and will be started again",
    "failed": "its process cannot be started",
    "stopped": "its process was stopped",
}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One entry of a worker's `/v1/models`."""

    name: str
    max_model_len: int | None
    root: str | None


@dataclass(slots=True)
class WorkerHealth:
    """What the probes of one worker add up to: down after several failures in a row, up after one success."""

    failures_to_unready: int
    up: bool | None = None
    """None until the first probe of this process is over."""
    failures: int = 0
    reason: str = "not probed yet"
    changed: float = 0.0
    """When `up` last changed."""
    models: tuple[ServedModel, ...] = ()
    """Empty until they are known; asked for again when the worker has been down."""

    def succeeded(self, now: float) -> bool:
        """True if the worker has just come up."""
        came_up = self.up is not True
        if came_up:
            self.changed = now
        self.up, self.failures, self.reason = True, 0, ""
        return came_up

    def failed(self, reason: str, now: float) -> bool:
        """True if the worker has just gone down."""
        self.failures += 1
        self.reason = reason
        if self.up is True and self.failures < self.failures_to_unready:
            return False
        went_down = self.up is not False
        if went_down:
            self.changed = now
        self.up, self.models = False, ()
        return went_down

    def restarted(self, now: float) -> None:
        self.up, self.failures, self.models, self.changed = None, 0, (), now
        self.reason = "restarted, not probed yet"

    def pause(self, interval: float, now: float) -> float:
        """Seconds until the next probe."""
        settled = not self.failures if self.up else now - self.changed >= FAST_FOR
        return interval if settled else min(FAST_INTERVAL, interval)


def supervisors_word(info: WorkerInfo) -> str:
    """What the supervisor says of a process in a state of `_SUPERVISED`, for a person."""
    said = info.message or _SUPERVISED[info.state]
    return f"{said}; see {info.log}" if info.log and info.state in ("backoff", "failed") else said


def explain(error: Exception, worker: Worker, info: WorkerInfo | None, timeout: float) -> str:
    """Why a probe failed, in words for a person; the supervisor's word goes before the socket's."""
    if info is not None and info.state in _SUPERVISED:
        return supervisors_word(info)
    if isinstance(error, httpx.TimeoutException):
        return f"does not answer at {worker.url} within {timeout:g} s"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"does not answer in HTTP at {worker.url}: {error}"
    return f"does not answer at {worker.url}: {_root_cause(error)}"


def _root_cause(error: BaseException) -> str:
    """The system's own words: httpx wraps them several times."""
    seen: BaseException | None = error
    last = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError):
            return "connection refused"
        if isinstance(seen, ssl.SSLError):
            return f"TLS: {seen.reason or seen}"
        if isinstance(seen, OSError):
            last = seen
        seen = seen.__cause__ or seen.__context__
    if isinstance(last, OSError) and last.strerror:
        return last.strerror.lower()
    return str(last) or type(last).__name__
