"""What is written on a request: all that its head says, read once for as long as a connection repeats it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.access.keys import Key
from gateway.errors import InvalidRequest
from gateway.relay import extras
from gateway.relay.extras import LogOptions

_TIMEOUT_HEADERS = {
    b"x-sluice-timeout-connect": "connect",
    b"x-sluice-timeout-queue": "queue",
    b"x-sluice-timeout-first-byte": "first_byte",
    b"x-sluice-timeout-silence": "silence",
}
_WISH_HEADERS = frozenset(
    (
        *_TIMEOUT_HEADERS,
        b"x-session-id",
        b"x-sluice-session",
        b"x-sluice-policy",
        b"x-sluice-priority",
        extras.STREAM_HEADER,
        b"traceparent",
    )
)
_LONGEST_TIMEOUT = 24 * 3600.0
_REQUEST_ID = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")
_LONGEST_REQUEST_ID = 128


class Wishes(msgspec.Struct):
    """What a client asks of the gateway by header fields."""

    priority: int | None = None
    session: str | None = None
    policy: str | None = None
    traceparent: str | None = None
    """W3C trace context as the client sent it."""
    log: LogOptions | None = None
    """Keep the answer's events, where it is a stream."""
    timeouts: dict[str, float] = {}
    """Seconds, by fields of `settings.Timeouts`."""


class Envelope(msgspec.Struct, frozen=True):
    """Of one request, or of many with the same head."""

    url: bytes
    """Path and query as the client sent them."""
    family: str
    sent_on: bytes
    """The client's header lines that a worker is sent (`fields.sent_on_lines`)."""
    key: Key | None
    wishes: Wishes
    request_id: bytes = b""
    """The client's own; empty: we make one."""
    cors: bytes = b""
    """Header lines that tell a browser whose pages may read the answer."""

    @property
    def tenant(self) -> str:
        """For logs and accounts."""
        return self.key.tenant if self.key is not None else ""


def read_wishes(fields: Mapping[bytes, bytes]) -> Wishes:
    """What header fields of ours ask for. Raises InvalidRequest."""
    wishes = Wishes()
    for name in sorted(_WISH_HEADERS & fields.keys()):  # our own session header wins over the common one
        value = fields[name]
        if name in _TIMEOUT_HEADERS:
            wishes.timeouts[_TIMEOUT_HEADERS[name]] = _seconds(name, value)
        elif name == b"x-sluice-priority":
            wishes.priority = _integer(name, value)
        elif name == extras.STREAM_HEADER:
            wishes.log = extras.from_header(value)
        else:
            text = value.decode("latin-1")
            if name == b"x-sluice-policy":
                wishes.policy = text
            elif name == b"traceparent":
                wishes.traceparent = text
            else:
                wishes.session = text
    return wishes


def own_request_id(fields: Mapping[bytes, bytes]) -> bytes:
    """The id that a client gave its request, empty if it gave none that is fit for logs."""
    request_id = fields.get(b"x-request-id", b"")
    usable = len(request_id) <= _LONGEST_REQUEST_ID and _REQUEST_ID.issuperset(request_id)
    return request_id if usable else b""


def cors_lines(allowed: tuple[str, ...], fields: Mapping[bytes, bytes]) -> bytes:
    """Header lines that every answer to a page of an `allowed` origin carries."""
    origin = fields.get(b"origin")
    if not allowed or origin is None or ("*" not in allowed and origin.decode("latin-1") not in allowed):
        return b""
    return (
        b"access-control-allow-origin: %b\r\nvary: origin\r\naccess-control-expose-headers: "
        b"x-request-id, x-sluice-worker, x-sluice-route, x-sluice-stream-id, server-timing\r\n" % origin
    )


def _seconds(name: bytes, value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= _LONGEST_TIMEOUT:
        raise InvalidRequest(
            f"The header {name.decode()} must be a number of seconds above 0, "
            f"not {value[:40].decode('latin-1')!r}.",
            code="invalid_header",
            param=name.decode(),
        )
    return seconds


def _integer(name: bytes, value: bytes) -> int:
    if len(value) > 12 or not value.removeprefix(b"-").isdigit():
        raise InvalidRequest(
            f"The header {name.decode()} must be an integer, not {value[:40].decode('latin-1')!r}.",
            code="invalid_header",
            param=name.decode(),
        )
    return int(value)
