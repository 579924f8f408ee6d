"""HTTP heads as bytes: what is sent to a worker, and what a client is answered."""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.relay.fields import status_line
from gateway.relay.framing import Framing
from gateway.relay.upstream import ResponseHead

_NO_WAIT = b"queue;dur=0.0, connect;dur=0.0"


def request_head(path: bytes, host: bytes, lines: bytes, extra: bytes, length: int) -> bytes:
    """The head sent to a worker: `lines` of the client's own, and of ours."""
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


def answer_lines(
    lines: bytes, worker: str, reason: str, queue: float, connect: float, route: float, first_byte: float
) -> bytes:
    """`lines`, and ours: who answers, why, and where the time went (W3C Server-Timing). In seconds."""
    return (
        b"%bx-sluice-worker: %b\r\nx-sluice-route: %b\r\n"
        b"server-timing: %b, route;dur=%.2f, first_byte;dur=%.1f\r\n"
    ) % (
        lines,
        worker.encode(),
        reason.encode(),
        b"queue;dur=%.1f, connect;dur=%.1f" % (queue * 1e3, connect * 1e3) if queue or connect else _NO_WAIT,
        route * 1e3,
        first_byte * 1e3,
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
