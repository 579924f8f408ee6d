"""What an operator may set about kept streams and data channels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

MEBIBYTE = 1024 * 1024


def _positive(section: Any) -> None:
    for f in fields(section):
        value = getattr(section, f.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
            raise ValueError(f"{f.name} must not be negative, got {value}")


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Logs of answers that clients asked to be kept (`x-sluice-stream`)."""

    stream_bytes: int = 4 * MEBIBYTE
    """Kept of one stream; its oldest events go first."""
    key_bytes: int = 64 * MEBIBYTE
    """Kept of one API key's streams, in one process."""
    total_bytes: int = 256 * MEBIBYTE
    """Kept of all streams of one process. Ended streams go first, oldest first."""
    running_per_key: int = 256
    """Running streams with a log, of one API key in one process."""
    keep_seconds: float = 300.0
    """How long a stream can be read after its end."""
    grace_seconds: float = 30.0
    """How long a resumable stream runs on with nobody reading it."""
    detached_seconds: float = 1800.0
    """Longest that a detached stream may run."""
    early_head_seconds: float = 1.0
    """The head with the stream's id is sent after so long without an event; no other worker is tried then."""
    valkey_url: str = field(default="", repr=False)
    """Keep streams there too, so that other gateways can serve them: `valkey://host:6379/0`."""

    def __post_init__(self) -> None:
        _positive(self)
        if self.stream_bytes < 1024:
            raise ValueError("stream_bytes must be at least 1024")
        if self.valkey_url and not re.match(r"(valkeys?|rediss?|unix)://", self.valkey_url):
            raise ValueError("valkey_url must look like valkey://host:6379/0 (or valkeys://, unix://)")


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server; told to clients too."""

    url: str
    """`stun:host:port` or `turn:host:port?transport=udp`."""
    username: str = ""
    credential: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not re.match(r"(stuns?|turns?):[^\s]+$", self.url):
            raise ValueError(f"url must look like stun:host:3478 or turn:host:3478, got {self.url!r}")


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """WebRTC data channels (`POST /v1/realtime/calls`). Limits are per gateway process."""

    enabled: bool = True
    """Answer offers, if the extra `webrtc` is installed."""
    ice_servers: tuple[IceServer, ...] = ()
    """For clients and for this end, where it is behind NAT itself."""
    advertised_address: str = ""
    """IP address that clients reach this host at, where it is not the host's own (NAT, containers)."""
    udp_ports: str = ""
    """Range of local UDP ports, `40000-40999`; any free port if empty. One port per call and address."""
    calls: int = 512
    """Calls at a time, in one process."""
    calls_per_key: int = 32
    """Calls at a time, of one API key in one process."""
    half_open: int = 64
    """Calls that have not connected yet, in one process."""
    half_open_per_key: int = 8
    """Likewise, of one API key."""
    offers_per_second: float = 2.0
    """Of one key in the long run; an answer costs some 10 ms of CPU."""
    offers_burst: int = 10
    """Offers of one key at once."""
    streams_per_call: int = 16
    """Answers that one call carries at a time."""
    connect_seconds: float = 15.0
    """A call must be connected by then."""
    idle_seconds: float = 60.0
    """A call that carries no stream and hears no message for so long is closed."""

    def __post_init__(self) -> None:
        _positive(self)
        _ = self.port_range

    @property
    def port_range(self) -> range | None:
        """The local UDP ports to use, None for any."""
        if not self.udp_ports:
            return None
        found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", self.udp_ports)
        if found is None or not 0 < (low := int(found[1])) <= (high := int(found[2])) <= 65535:
            raise ValueError(f"udp_ports must be a range like 40000-40999, got {self.udp_ports!r}")
        return range(low, high + 1)
