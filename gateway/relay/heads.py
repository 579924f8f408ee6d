"""HTTP heads as bytes: which header fields pass, in both directions (RFC 9110 section 7.6.1)."""

from __future__ import annotations

from http import HTTPStatus

from gateway.errors import GatewayError
from gateway.relay.framing import Framing
from gateway.relay.upstream import Headers, ResponseHead

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
NOT_SENT_ON = HOP_BY_HOP | {
    b"accept-encoding",
    b"authorization",
    b"content-length",
    b"expect",
    b"host",
    b"x-api-key",
    b"x-request-id",
}
"""Request fields that are ours or between us and the client. Workers are asked for identity encoding."""

_NOT_SENT_BACK = HOP_BY_HOP | {b"content-length", b"x-request-id", b"server"}
STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def named_in_connection(headers: Headers) -> frozenset[bytes]:
    """Fields that `Connection` declares to be hop-by-hop as well."""
    named = [value for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(token.strip().lower() for value in named for token in value.split(b","))


def request_head(path: bytes, host: bytes, headers: Headers, extra: bytes, length: int) -> bytes:
    """The head sent to a worker. `extra` holds whole header lines of ours; they replace the client's."""
    dropped = named_in_connection(headers)
    if b"traceparent: " in extra:
        dropped |= {b"traceparent"}
    lines = [b"POST ", path, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
    for name, value in headers:
        if name not in NOT_SENT_ON and name not in dropped:
            lines += (name, b": ", value, b"\r\n")
    lines.append(b"%baccept-encoding: identity\r\ncontent-length: %d\r\n\r\n" % (extra, length))
    return b"".join(lines)


def response_head(head: ResponseHead, extra: bytes, http11: bool, keep_alive: bool) -> bytes:
    """The head sent to the client for a worker's answer. `extra` holds whole header lines of ours."""
    dropped = named_in_connection(head.headers)
    lines = [status_line(head.status)]
    length = b""
    for name, value in head.headers:
        if name == b"content-length":
            length = value
        elif name not in _NOT_SENT_BACK and name not in dropped:
            lines += (name, b": ", value, b"\r\n")
    if head.events:
        lines.append(b"x-accel-buffering: no\r\n")
        if not any(name == b"cache-control" for name, _ in head.headers):
            lines.append(b"cache-control: no-cache\r\n")
    if head.framing is Framing.NONE:
        if head.status not in (204, 304):
            lines.append(b"content-length: 0\r\n")
    elif length and not head.events:
        lines += (b"content-length: ", length, b"\r\n")
    elif http11:
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.append(extra)
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    return b"".join(lines)


def error_response(error: GatewayError, family: str, extra: bytes, keep_alive: bool) -> bytes:
    """A whole response in OpenAI's error form; for the messages API the same with Anthropic's outer type."""
    body = error.body()
    if family == "messages":
        body = b'{"type":"error",' + body[1:]
    lines = [
        status_line(error.status),
        b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
        extra,
    ]
    if error.retry_after is not None:
        lines.append(b"retry-after: %d\r\n" % max(1, round(error.retry_after)))
    if error.status == 401:
        lines.append(b"www-authenticate: Bearer\r\n")
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    lines.append(body)
    return b"".join(lines)
