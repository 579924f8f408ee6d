"""HTTP heads as bytes: what is sent to a worker, and what a client is answered."""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.relay.fields import Headers, sent_on_lines, status_line
from gateway.relay.framing import Framing
from gateway.relay.upstream import ResponseHead

_TRACE = frozenset((b"traceparent",))


def request_head(path: bytes, host: bytes, headers: Headers, extra: bytes, length: int) -> bytes:
    """The head sent to a worker. `extra` holds whole header lines of ours; they replace the client's."""
    lines = sent_on_lines(headers, _TRACE) if b"traceparent: " in extra else sent_on_lines(headers)
    return b"POST %b HTTP/1.1\r\nhost: %b\r\n%b%baccept-encoding: identity\r\ncontent-length: %d\r\n\r\n" % (
        path,
        host,
        lines,
        extra,
        length,
    )


def response_head(head: ResponseHead, extra: bytes, http11: bool, keep_alive: bool) -> bytes:
    """The head sent to the client for a worker's answer. `extra` holds whole header lines of ours."""
    if head.events:
        framing = b"x-accel-buffering: no\r\n"
        if b"\r\ncache-control: " not in head.passed:
            framing += b"cache-control: no-cache\r\n"
        if http11:
            framing += b"transfer-encoding: chunked\r\n"
    elif head.framing is Framing.LENGTH or (head.framing is Framing.NONE and head.status not in (204, 304)):
        framing = b"content-length: %d\r\n" % head.length
    elif http11 and head.framing is not Framing.NONE:
        framing = b"transfer-encoding: chunked\r\n"
    else:
        framing = b""
    return b"%b%b%b%b" % (
        head.passed,
        framing,
        extra,
        b"\r\n" if keep_alive else b"connection: close\r\n\r\n",
    )


def error_response(error: GatewayError, family: str, extra: bytes, keep_alive: bool) -> bytes:
    """A whole response in OpenAI's error form, for the messages API in Anthropic's."""
    body = error.anthropic_body() if family == "messages" else error.body()
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
