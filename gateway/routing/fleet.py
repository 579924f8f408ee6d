"""The workers as one gateway process sees them.

`Worker` is a live record: the prober writes its health, the router its load, policies only read.
It is not a snapshot that is copied per request: a decision reads a few numbers of each worker, in one
synchronous step, so nothing can change in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Generic, Literal, TypeVar
from urllib.parse import urlsplit

from engine_adapter.api import WorkerInfo

Health = Literal["unknown", "ready", "unready", "draining"]
Breaker = Literal["closed", "open", "half_open"]
V = TypeVar("V")


class _Decisive(Generic[V]):
    """A field that decides whether a worker is sent requests.

    It changes a few times a minute and is asked for with every request, so whoever depends on it is told.
    """

    def __set_name__(self, owner: type[Worker], name: str) -> None:
        self._slot = f"_{name}"

    def __get__(self, worker: Worker, owner: type[Worker] | None = None) -> V:
        value: V = getattr(worker, self._slot)
        return value

    def __set__(self, worker: Worker, value: V) -> None:
        setattr(worker, self._slot, value)
        worker.changed()


@dataclass(slots=True, eq=False)
class Worker:
    """One inference server. Identity is `id`; a restart keeps the record and raises `generation`."""

    id: str
    url: str
    host: str
    port: int
    authority: bytes
    """`Host` field of requests to it."""
    tls: bool = False
    prefix: bytes = b""
    """Path in front of `/v1/...`, without a trailing slash."""
    models = _Decisive[tuple[str, ...]]()
    """Served model names, from the worker's own `/v1/models`."""
    max_model_len: int | None = None
    health = _Decisive[Health]()
    breaker = _Decisive[Breaker]()
    message: str = ""
    """Why it is not ready, in words for a person."""
    generation: int = 0
    kv_events: str | None = None
    kv_replay: str | None = None
    server_name: str | None = None
    """Name to ask for where `host` is one of its addresses."""
    answered_at: float = 0.0
    """When it last began an answer that does not blame it, in seconds of a monotonic clock."""
    in_flight: int = 0
    """Requests that this process has sent to it and that have not ended."""
    max_in_flight = _Decisive[int]()
    """Requests it may hold at a time; more wait at the gateway."""
    limit: int = 0
    """The same as things are: none while it is not ready, one as a trial behind a half-open breaker."""
    watchers: list[Callable[[], None]] = field(default_factory=list)
    """Told of changes that decide whether it is sent requests."""
    _models: tuple[str, ...] = ()
    _health: Health = "unknown"
    _breaker: Breaker = "closed"
    _max_in_flight: int = 512

    @classmethod
    def from_info(cls, info: WorkerInfo) -> Worker:
        """Raises ValueError when the URL is not http(s)://host[:port][/prefix]."""
        parts = urlsplit(info.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"worker {info.id}: {info.url!r} is not a URL like http://127.0.0.1:8000")
        authority = parts.netloc.rpartition("@")[2]
        if info.server_name is not None:
            authority = info.server_name if parts.port is None else f"{info.server_name}:{parts.port}"
        return cls(
            id=info.id,
            url=info.url.rstrip("/"),
            host=parts.hostname,
            port=parts.port or (443 if parts.scheme == "https" else 80),
            authority=authority.encode(),
            tls=parts.scheme == "https",
            prefix=parts.path.rstrip("/").encode(),
            _models=(info.model,) if info.model else (),
            message=info.message,
            generation=info.generation,
            kv_events=info.kv_events,
            kv_replay=info.kv_replay,
            server_name=info.server_name,
        )

    @property
    def accepting(self) -> bool:
        """May a new request be sent to it now?"""
        return self.in_flight < self.limit

    def changed(self) -> None:
        """Its state is another, or it has become full, or is not full any more."""
        if self._health != "ready" or self._breaker == "open":
            self.limit = 0
        else:
            self.limit = self._max_in_flight if self._breaker == "closed" else min(1, self._max_in_flight)
        for tell in self.watchers:
            tell()


def is_loopback(host: str) -> bool:
    """Does the name or address mean the machine that uses it?"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


FleetListener = Callable[[Literal["joined", "left", "restarted"], Worker], None]


@dataclass(slots=True)
class Fleet:
    """The set of workers, by id, with listeners for membership (index, KV events and pools follow it)."""

    workers: dict[str, Worker] = field(default_factory=dict)
    _listeners: list[FleetListener] = field(default_factory=list)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers.values())

    def subscribe(self, listener: FleetListener) -> None:
        self._listeners.append(listener)

    def update(self, infos: list[WorkerInfo]) -> None:
        """Make the membership equal to `infos`. A changed URL counts as leaving and joining."""
        wanted = {info.id: info for info in infos}
        for worker in list(self.workers.values()):
            info = wanted.get(worker.id)
            if info is None or info.url.rstrip("/") != worker.url:
                del self.workers[worker.id]
                self._tell("left", worker)
        for info in infos:
            known = self.workers.get(info.id)
            if known is None:
                self.workers[info.id] = joined = Worker.from_info(info)
                self._tell("joined", joined)
            elif info.generation != known.generation:
                known.generation = info.generation
                self._tell("restarted", known)

    def serving(self, model: str) -> list[Worker]:
        """Workers that serve `model` and accept requests now."""
        return [w for w in self.workers.values() if model in w.models and w.accepting]

    def models(self) -> dict[str, list[Worker]]:
        """Every known model name with the workers that serve it, ready or not."""
        names: dict[str, list[Worker]] = {}
        for worker in self.workers.values():
            for name in worker.models:
                names.setdefault(name, []).append(worker)
        return names

    def _tell(self, event: Literal["joined", "left", "restarted"], worker: Worker) -> None:
        for listener in self._listeners:
            listener(event, worker)
