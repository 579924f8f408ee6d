"""Which header fields pass, in both directions (RFC 9110 section 7.6.1)."""

from __future__ import annotations

from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]
"""Field lines in their order; names in lower case."""

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_SENT_ON = HOP_BY_HOP | {
    b"accept-encoding",
    b"authorization",
    b"content-length",
    b"expect",
    b"host",
    b"origin",
    b"traceparent",
    b"x-api-key",
    b"x-request-id",
}
"""Request fields that are between us and the client, or ours to write. Workers are asked for identity
encoding."""
_NOT_SENT_BACK = HOP_BY_HOP | {
    b"access-control-allow-credentials",
    b"access-control-allow-origin",
    b"access-control-expose-headers",
    b"content-length",
    b"server",
    b"x-accel-buffering",
    b"x-request-id",
}
"""Fields of an answer that are ours to say: framing, the request's id, and who may read it in a browser."""

_STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def sent_on_lines(headers: Headers) -> bytes:
    """The lines of a client's request that a worker is sent as they are."""
    dropped = _named_in_connection(headers)
    lines: list[bytes] = []
    for name, value in headers:
        if name not in _NOT_SENT_ON and name not in dropped:
            lines += (name, b": ", value, b"\r\n")
    return b"".join(lines)


def passed_lines(status: int, headers: Headers) -> bytes:
    """Status line and the lines of a worker's answer that a client is shown."""
    dropped = _named_in_connection(headers)
    lines = [status_line(status)]
    for name, value in headers:
        if name not in _NOT_SENT_BACK and name not in dropped:
            lines += (name, b": ", value, b"\r\n")
    return b"".join(lines)


def _named_in_connection(headers: Headers) -> frozenset[bytes]:
    """Fields that `Connection` declares to be hop-by-hop as well."""
    for name, _ in headers:
        if name == b"connection":
            break
    else:
        return frozenset()
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))
