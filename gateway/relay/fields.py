"""A request's target and header fields: which pass, in both directions (RFC 9110 section 7.6.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from http import HTTPStatus

import httptools

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


def origin_form(url: bytes) -> bytes:
    """Path and query of a target that may be a whole URL (RFC 9112 section 3.2.2)."""
    with contextlib.suppress(httptools.HttpParserInvalidURLError):
        target = httptools.parse_url(url)
        if target.schema is not None:
            return (target.path or b"/") + (b"" if target.query is None else b"?" + target.query)
    return url


def written_head(
    method: bytes, url: bytes, version: str, headers: Headers, without: Collection[bytes]
) -> bytes:
    """Request line and field lines, but for the fields in `without`; no blank line."""
    lines = [method, b" ", url, b" HTTP/", version.encode(), b"\r\n"]
    for name, value in headers:
        if name not in without:
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
