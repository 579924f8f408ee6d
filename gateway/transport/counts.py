"""Plain numbers about kept streams and data channels of one process; telemetry reads them by need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Path = Literal["post", "get", "events", "eloquent"]
"""How events reach a reader: the connection that asked, a later GET, control channel, token channel."""

LATE_SECONDS = 0.2
"""An event that reaches its reader later than this after it came from the worker is late."""


def _by_label() -> defaultdict[str, int]:
    return defaultdict(int)


@dataclass(slots=True)
class StreamCounts:
    opened: defaultdict[str, int] = field(default_factory=_by_label)
    """Streams kept, by mode."""
    ended: defaultdict[str, int] = field(default_factory=_by_label)
    """By status."""
    resumed: defaultdict[str, int] = field(default_factory=_by_label)
    """Readers that went on after some event, by path."""
    events: defaultdict[str, int] = field(default_factory=_by_label)
    """Events that reached readers, by path; with Eloquent, that were acknowledged."""
    bytes: defaultdict[str, int] = field(default_factory=_by_label)
    """Bytes sent to readers, by path, repeats included."""
    late: defaultdict[str, int] = field(default_factory=_by_label)
    """Of `events`, those that were late."""
    truncated: defaultdict[str, int] = field(default_factory=_by_label)
    """Readers that fell out of the ring, by path."""
    fallbacks: defaultdict[str, int] = field(default_factory=_by_label)
    """Streams that the data channel gave up, by reason: their readers switch the path."""
    evicted: defaultdict[str, int] = field(default_factory=_by_label)
    """Ended streams forgotten before their time, by whose bound it was: `key`, `total`."""
    packets: defaultdict[str, int] = field(default_factory=_by_label)
    """On the token channel: `sent`, `repeat`, `ack`, `forged`, `malformed`."""
    offers: defaultdict[str, int] = field(default_factory=_by_label)
    """Offers of calls, by result: `answered`, or the code of the refusal."""
    calls: defaultdict[str, int] = field(default_factory=_by_label)
    """Ended calls, by cause."""
    mirror_errors: defaultdict[str, int] = field(default_factory=_by_label)
    """Failed operations of the shared store, by kind."""


COUNTERS = tuple(StreamCounts.__slots__)


@dataclass(slots=True)
class StreamSources:
    """Where telemetry reads."""

    counts: StreamCounts
    gauges: Callable[[], dict[str, int]]
    """`running`, `kept`, `readers`, `log_bytes`, `calls`, `half_open_calls`."""
