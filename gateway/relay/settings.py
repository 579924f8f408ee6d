"""What an operator may set about the data plane: small frozen values, each passed to its one user."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _positive(section: Any) -> None:
    for f in fields(section):
        value = getattr(section, f.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
            raise ValueError(f"{f.name} must not be negative, got {value}")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. There is none on the total length of a stream. 0 switches one off."""

    connect: float = 5.0
    """Longest wait for a new connection to a worker."""
    queue: float = 30.0
    """Longest wait for a free place at a worker."""
    first_byte: float = 600.0
    """From the request being sent to the worker until its answer begins."""
    silence: float = 120.0
    """Longest gap between two pieces of an answer that has begun."""
    stalled_client: float = 60.0
    """How long a client may leave its receive buffer full before it is dropped."""

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    header_bytes: int = 64 * 1024
    """Longest head of a request; a longer one is refused with 431."""
    body_bytes: int = 64 * 1024 * 1024
    """Longest body of a request; a longer one is refused with 413."""
    header_seconds: float = 15.0
    """A request's head must be complete this long after its first byte (slow-loris)."""
    body_seconds: float = 120.0
    """A request's body must be complete this long after its head."""
    keep_alive_seconds: float = 75.0
    """A client's connection is closed after so long without a request."""
    requests_per_connection: int = 1_000_000
    """After so many, a client's connection is closed behind the answer."""
    stream_buffer_bytes: int = 256 * 1024
    """Bytes that may wait for one slow client before its worker is no longer read."""
    event_bytes: int = 4 * 1024 * 1024
    """Longest single SSE event that is held back until it is whole."""

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, slots=True)
class Retries:
    """Only before the first byte reached the client, on another worker."""

    attempts: int = 3
    """Attempts per request in total."""
    budget: float = 0.2
    """Retries and hedges may be at most this share of recent requests, over all requests together."""
    budget_floor: int = 10
    """So many are always allowed per window, so that a quiet gateway can retry at all."""
    window: float = 10.0
    """Seconds within which requests count as recent."""
    statuses: tuple[int, ...] = (502, 503, 504)
    """Worker answers that another worker may do better."""

    def __post_init__(self) -> None:
        _positive(self)
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1 (the first try counts)")


@dataclass(frozen=True, slots=True)
class Hedging:
    """Ask a second worker when the first byte is late; the first to answer wins. Off by default."""

    enabled: bool = False
    """Costs the share of work that is asked for twice; the retry budget bounds it."""
    quantile: float = 0.95
    """A first byte is late when it takes longer than this share of recent ones did."""
    min_seconds: float = 0.5
    """None is late before this."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.quantile < 1.0:
            raise ValueError("quantile must be in [0.5, 1)")


@dataclass(frozen=True, slots=True)
class Admission:
    per_worker: int = 512
    """Requests that one gateway process has at one worker at a time; the engine queues and batches them."""
    queue: int = 1024
    """Requests that wait for a place, per gateway process; over it they are refused with 429."""
    default_priority: int = 0
    """Of requests that name none; larger is more urgent."""

    def __post_init__(self) -> None:
        _positive(self)
        if self.per_worker < 1:
            raise ValueError("per_worker must be at least 1")


@dataclass(frozen=True, slots=True)
class HealthChecks:
    interval: float = 2.0
    """Seconds between two looks at a worker; one that has answered a request since is not asked."""
    timeout: float = 2.0
    """Seconds within which a worker must answer `/health`."""
    failures_to_unready: int = 2
    """Probes in a row that must fail before a ready worker gets no more requests."""
    breaker_failures: int = 3
    """Consecutive failed requests that open a worker's breaker."""
    breaker_open_seconds: float = 5.0
    """First pause; doubles with every failed trial up to `breaker_open_max`."""
    breaker_open_max: float = 60.0
    """Longest pause between two trials of a worker whose breaker is open."""
    resolve_interval: float = 10.0
    """Names of workers are looked up this often, to find addresses that joined or left."""

    def __post_init__(self) -> None:
        _positive(self)
        if self.resolve_interval == 0:
            raise ValueError("resolve_interval must be above 0")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: HttpLimits = field(default_factory=HttpLimits)
    retries: Retries = field(default_factory=Retries)
    hedging: Hedging = field(default_factory=Hedging)
    admission: Admission = field(default_factory=Admission)
    health: HealthChecks = field(default_factory=HealthChecks)
    model_timeouts: dict[str, Timeouts] = field(default_factory=dict)
    """Overrides per model name."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Model names clients may use -> the name a worker serves."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser; `*` for all. The own page needs none."""
    ping_seconds: float = 15.0
    """SSE comment after so much silence, once the worker has accepted the request."""
    drain_seconds: float = 30.0
    """Grace for running answers after SIGTERM."""
    worker_api_key: str = field(default="", repr=False)
    """Key that the workers themselves ask for (vLLM's `--api-key`). A client's key never reaches them."""

    def __post_init__(self) -> None:
        _positive(self)
        if chained := sorted(set(self.aliases.values()) & self.aliases.keys()):
            raise ValueError(f"alias of an alias: {', '.join(chained)}")
