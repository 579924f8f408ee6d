"""Plain numbers that the data plane counts with; telemetry reads them when somebody asks.

Nothing here locks, allocates or formats on the hot path: a counter is an integer attribute.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field

TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
ITL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
DURATION_BUCKETS = (0.005, 0.025, 0.1, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)
WAIT_BUCKETS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)


class Histogram:
    """Counts per bucket, not cumulative; `counts[i]` holds values <= `bounds[i]`, the last one the rest."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        counts, bounds = self.counts, self.bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)


END_REASONS = (
    "ok",
    "client_gone",
    "client_stalled",
    "worker_error",
    "worker_gone",
    "timeout_connect",
    "timeout_first_byte",
    "timeout_silence",
    "bad_response",
    "drained",
    "cancelled",
    "refused",
    "gateway_error",
)
"""How a request truly ended, whatever status line was sent before. `refused`: no worker saw it;
`gateway_error`: a fault of the gateway's own."""

RETRY_CAUSES = ("connect", "gone", "status", "timeout", "unready")
"""Why another worker was asked. `unready`: the first one has stopped answering its health checks."""


@dataclass(slots=True)
class Series:
    """All numbers of one (worker, model)."""

    worker: str
    model: str
    ends: Counter[str] = field(default_factory=Counter)
    """By END_REASONS."""
    statuses: Counter[int] = field(default_factory=Counter)
    """HTTP status as the client saw it."""
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT_BUCKETS))
    """Seconds from the request's last byte to the first byte of the answer."""
    itl: Histogram = field(default_factory=lambda: Histogram(ITL_BUCKETS))
    """Seconds between two pieces of a stream as they came from the worker."""
    duration: Histogram = field(default_factory=lambda: Histogram(DURATION_BUCKETS))
    streams: int = 0
    events: int = 0
    """Pieces of streams as they came from the worker; usually one event each."""
    request_bytes: int = 0
    response_bytes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


def _nothing() -> None: ...


@dataclass(slots=True)
class Accounting:
    """The numbers of one gateway process. `settle` before reading them."""

    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    retries: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By RETRY_CAUSES."""
    retries_denied: int = 0
    """Retries that the budget did not allow."""
    hedges: int = 0
    hedges_won: int = 0
    refusals: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Requests that never reached a worker, by error code (invalid_api_key, queue_full, ...)."""
    queue_wait: Histogram = field(default_factory=lambda: Histogram(WAIT_BUCKETS))
    queued: int = 0
    """Waiting for a place now."""
    open: Sized = ()
    """Inference requests in this process now, from head to end."""
    settle: Callable[[], None] = _nothing
    """Brings `series` up to date: the shares of requests that ended a moment ago may not be in it yet."""

    @property
    def active(self) -> int:
        """How many are open."""
        return len(self.open)

    def of(self, worker: str, model: str) -> Series:
        key = (worker, model)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(worker, model)
        return series


@dataclass(slots=True)
class AccessRecord:
    """One finished inference request, for the access log and traces. Times in seconds."""

    request_id: str
    method: str
    path: str
    status: int
    end: str
    model: str = ""
    worker: str = ""
    tenant: str = ""
    client: str = ""
    stream: bool = False
    attempts: int = 0
    started: float = 0.0
    """time.time() of the request's head."""
    queue: float = 0.0
    connect: float = 0.0
    ttft: float = 0.0
    duration: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    route: str = ""
    traceparent: str | None = None
    """As the client sent it."""
    sent_traceparent: str | None = None
    """As the last worker got it, where requests are traced."""
