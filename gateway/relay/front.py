"""One client connection: inference requests are relayed from here, every other request goes to FastAPI.

A uvicorn HTTP protocol (`uvicorn.Config(http=...)`): what it does not take itself is left to the class that
it extends, so control plane and TLS work as in any uvicorn server.

Requests that are pipelined are answered in order: while one is in progress, later ones are written down as
bytes and parsed again when their turn comes. Reading pauses once a bounded number of bytes waits, so that a
client that leaves is noticed as long as it has not pipelined more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httptools
import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.access.keys import Key
from gateway.errors import GatewayError, InvalidRequest, TooLarge
from gateway.relay.call import Keys
from gateway.relay.envelope import Envelope, cors_lines, own_request_id, read_wishes
from gateway.relay.exchange import Exchange
from gateway.relay.fields import Headers, origin_form, sent_on_lines, written_head
from gateway.relay.heads import error_response
from gateway.relay.known_head import HeadPattern, pattern_of
from gateway.relay.relay import Relay
from gateway.relay.request import FAMILIES

log = structlog.get_logger(__name__)

_LINGER_SECONDS = 2.0
_REMEMBERED = 3
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HeaderTooLarge(GatewayError):
    status, type, code = 431, "invalid_request_error", "headers_too_large"


class RequestTimeout(GatewayError):
    status, type, code = 408, "invalid_request_error", "request_timeout"


class _KnownHead(msgspec.Struct, frozen=True):
    """A good head of one connection, and what it meant."""

    pattern: HeadPattern
    envelope: Envelope
    keys: Keys | None
    keys_version: int
    """Of `keys`, which knew the envelope's key."""


class Front(HttpToolsProtocol):
    """Implements `client.Client` for the exchange in progress."""

    # A dictionary of these and uvicorn's together would take a kilobyte of every connection.
    __slots__ = (
        "_arrived", "_backlog", "_backlog_bytes", "_body", "_deaf", "_envelope", "_family", "_head_bytes",
        "_key", "_known", "_later", "_later_head", "_overdue", "_plain_head", "_refusal", "_remembers",
        "_undisturbed", "exchange", "fields", "http11", "idle_since", "keep_alive", "limits", "relay",
        "requests", "write",
    )  # fmt: skip

    def __init__(self, relay: Relay, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self.relay = relay
        self.limits = relay.settings.limits
        self.exchange: Exchange | None = None
        self.http11 = True
        self.keep_alive = True
        self.requests = 0
        self.idle_since = relay.now()
        """When the last answer ended; 0 while a request is read or answered."""
        self.url = b""
        self.headers: Headers = []
        self.fields: dict[bytes, bytes] = {}
        """The same by name, in lower case; of repeated ones the last."""
        self._envelope: Envelope | None = None
        """Of the latest request that was parsed and begun."""
        self._family: str | None = None
        """Family of the relayed request that is being read; None for the control plane."""
        self._key: Key | None = None
        self._refusal: GatewayError | None = None
        """Why the request being read will not be served; its body is thrown away."""
        self._body: bytes | bytearray = b""
        self._head_bytes = -1
        """Bytes of the head being read in earlier reads, -1 outside of heads."""
        self._arrived = 0
        """Bytes of the read that is being parsed."""
        self._overdue: asyncio.TimerHandle | None = None
        self._later: bytearray | None = None
        """Body of the pipelined request that is being written down."""
        self._later_head = b""
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._plain_head = b""
        """A head that asks for an upgrade which is not made, without that wish."""
        self._known: _KnownHead | None = None
        self._remembers = _REMEMBERED
        """How many more heads may be remembered in vain."""
        self._undisturbed = False
        """Nothing but requests with the known head has come since its last one came."""
        self._deaf = False
        """What still comes from the client is thrown away: the connection ends after this answer."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.write = transport.write  # no frame of ours between an exchange and the transport
        transport.set_write_buffer_limits(high=self.limits.stream_buffer_bytes)

    @property
    def peer(self) -> str:
        return self.client[0] if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_overdue()
        self._backlog.clear()
        exchange, self.exchange = self.exchange, None
        super().connection_lost(exc)
        if exchange is not None:
            exchange.client_gone()

    def data_received(self, data: bytes) -> None:
        known = self._known
        if (
            known is not None
            and self.exchange is None
            and (self._undisturbed or self._at_rest)
            and self._is_repeated(data, known)
        ) or self._deaf:
            return
        self._undisturbed = False
        self._arrived = len(data)
        whole = self._at_rest
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            log.exception("request parsing failed", exc_info=error)
            self.transport.abort()
            return
        except httptools.HttpParserError as error:
            self._malformed(f"Malformed HTTP request: {error}.")
            return
        except httptools.HttpParserUpgrade as upgrade:
            if self._plain_head:
                self._go_on_without_upgrade(data[upgrade.args[0] :])
            else:
                # What follows would be in the other protocol.
                self._stop_listening()
                if self.cycle is not None:
                    self.cycle.keep_alive = False
            return
        if self._deaf:
            return
        if whole and self.exchange is not None and self._remembers:
            self._remember(data)
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.header_bytes:
                self._refuse_now(self._head_too_large())
            elif self._overdue is None:
                self._set_overdue(self.limits.header_seconds)
        elif self._overdue is None and (
            self._family is not None or self._later is not None or self._is_handing_over
        ):
            self._set_overdue(self.limits.body_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.exchange is not None:
            self.exchange.client_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.exchange is not None:
            self.exchange.client_resumed()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self.idle_since = 0.0
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._head_bytes = 0
        self.url = b""
        self.headers = []
        self.fields = {}
        self._later = bytearray() if self.is_busy else None

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_bytes >= 0:  # else it is a trailer: these are dropped, as RFC 9110 section 6.5.1 allows
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        head_bytes = self._head_bytes + self._arrived
        self._head_bytes = -1
        self._cancel_overdue()
        if head_bytes > self.limits.header_bytes and self._is_head_too_large():
            self._family = None
            self._refuse_now(self._head_too_large())
            return
        method = self.parser.get_method()
        if self.parser.should_upgrade() and method != b"CONNECT":
            self._plain_head = self._head_without(method, b"upgrade", b"http2-settings") + b"\r\n"
            self._deaf = True
            return
        if self._later is not None:
            self._write_down_head(method)
            return
        self.fields = fields = dict(self.headers)
        self.expect_100_continue = fields.get(b"expect", b"").lower() == b"100-continue"
        if self.url[:1] != b"/":
            self.url = origin_form(self.url)
        family = FAMILIES.get(self.url.partition(b"?")[0]) if method == b"POST" else None
        self._family = family
        if family is None:
            self._hand_over()
            return
        self._body = b""
        self._refusal = None
        version = self.parser.get_http_version()
        self.http11 = version == "1.1"
        self.requests += 1
        self.keep_alive = (
            self.http11
            and self.parser.should_keep_alive()
            and not self.relay.draining
            and self.requests < self.limits.requests_per_connection
        )
        try:
            self._check_head()
        except GatewayError as error:
            self._refusal = error
            if self.expect_100_continue or isinstance(error, TooLarge):
                self._refuse_now(error)
        else:
            if self.expect_100_continue and self.http11:
                self.transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        if self._deaf:
            return
        if self._later is not None:
            self._later += body
            if len(self._later) > self.limits.body_bytes:
                self._stop_listening()
        elif self._family is None:
            super().on_body(body)
        elif self._refusal is None:
            if not self._body:
                self._body = body
            elif isinstance(self._body, bytearray):
                self._body += body
            else:
                self._body = bytearray(self._body)
                self._body += body
            if len(self._body) > self.limits.body_bytes:
                self._body = b""
                self._refuse_now(self._too_large())

    def on_message_complete(self) -> None:
        if self._deaf:
            return
        self._cancel_overdue()
        if self._later is not None:
            self._write_down_end()
        elif self._family is None:
            super().on_message_complete()
        else:
            self._read_envelope()

    # a relayed request

    @property
    def is_busy(self) -> bool:
        """Is a request in progress, or one waiting whose turn comes first?"""
        return (
            self.exchange is not None
            or bool(self._backlog)
            or (self.cycle is not None and not self.cycle.response_complete)
        )

    def _is_head_too_large(self) -> bool:
        lines = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.url) + lines > self.limits.header_bytes

    def _head_too_large(self) -> HeaderTooLarge:
        return HeaderTooLarge(f"The request's head is longer than {self.limits.header_bytes} bytes.")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Ignore the wish for an upgrade, as RFC 9110 section 7.8 allows: to the parser what follows the head
        would be in the other protocol. Java's HTTP client wishes for h2c with every request."""
        self._deaf = False
        head, self._plain_head = self._plain_head, b""
        self._head_bytes = -1
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(head + rest)

    def _check_head(self) -> None:
        """What can be known before the body. Raises GatewayError."""
        fields = self.fields
        if int(fields.get(b"content-length", b"0")) > self.limits.body_bytes:
            raise self._too_large()
        repeated = len(fields) != len(self.headers) and [n for n, _ in self.headers].count(b"host") > 1
        if repeated or (b"host" not in fields and self.http11):
            raise InvalidRequest("The request needs exactly one Host header.", code="invalid_host")
        self._key = self.relay.admitter.authenticate(fields)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The request body is longer than {self.limits.body_bytes} bytes.")

    @property
    def _at_rest(self) -> bool:
        """Is nothing read or answered, so that the next byte begins a request?"""
        return (
            self.exchange is None
            and not self._deaf
            and self._head_bytes < 0
            and self._family is None
            and self._later is None
            and not self._backlog
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _is_repeated(self, data: bytes, known: _KnownHead) -> bool:
        """Begin the request in `data`, if it is one with a head that is known to be good. Asked at rest."""
        if self.relay.draining or (known.keys is not None and known.keys.version != known.keys_version):
            return False
        body = known.pattern.body_behind(data)
        limits = self.limits
        requests = self.requests + 1
        if body is None or len(body) > limits.body_bytes or requests >= limits.requests_per_connection:
            return False
        self.idle_since = 0.0
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self.requests = requests
        self._remembers = _REMEMBERED
        self._undisturbed = True
        self._begin(known.envelope, body)
        return True

    def _remember(self, data: bytes) -> None:
        """The request in `data` was served; its head may come again."""
        self._remembers -= 1
        if self._envelope is None or not self.keep_alive or self.expect_100_continue:
            return
        pattern = pattern_of(data)
        if pattern is not None and pattern.body_behind(data) is not None:
            keys = self.relay.admitter.keys
            self._known = _KnownHead(pattern, self._envelope, keys, 0 if keys is None else keys.version)

    def _read_envelope(self) -> None:
        """The request is complete: begin or refuse it."""
        body, self._body = self._body, b""
        headers, self.headers = self.headers, []
        refusal, self._refusal = self._refusal, None
        family, self._family = self._family or "", None
        fields = self.fields
        if refusal is None:
            try:
                self._envelope = envelope = Envelope(
                    self.url,
                    family,
                    sent_on_lines(headers),
                    self._key,
                    read_wishes(fields),
                    own_request_id(fields),
                    cors_lines(self.relay.settings.cors_origins, fields),
                )
            except GatewayError as error:
                refusal = error
            else:
                self.fields = {}  # the envelope has what matters; a stream may stay open for long
                self._begin(envelope, body)
                return
        self._answer_error(refusal, family, self._answer_headers())

    def _begin(self, envelope: Envelope, body: bytes | bytearray) -> None:
        """Answer a request that is complete."""
        relay = self.relay
        request_id = envelope.request_id or relay.new_request_id()
        answer_headers = b"x-request-id: %b\r\n%b" % (request_id, envelope.cors)
        try:
            call = relay.admitter.admit(envelope, request_id, body, answer_headers)
            if call.log is not None and relay.open_logged is not None and self.http11:
                exchange: Exchange = relay.open_logged(self, call, envelope.key)
            else:
                exchange = Exchange(relay, self, call, relay.now())
        except GatewayError as error:
            self._answer_error(error, envelope.family, answer_headers)
            return
        self.exchange = exchange
        if self.flow.write_paused:  # by the answer before
            exchange.client_paused()
        exchange.start()

    def _answer_headers(self) -> bytes:
        """The header lines that every answer to the request being read carries."""
        request_id = own_request_id(self.fields) or self.relay.new_request_id()
        return b"x-request-id: %b\r\n%b" % (
            request_id,
            cors_lines(self.relay.settings.cors_origins, self.fields),
        )

    # exchange.Client

    def answered(self, keep_alive: bool) -> None:
        self.exchange = None
        self.idle_since = self.relay.now()
        if self._deaf or not keep_alive or self.relay.draining:
            self.transport.close()
            return
        if self._backlog:
            self.loop.call_soon(self._replay)

    def abort(self) -> None:
        self.exchange = None
        self.transport.abort()

    # refusals

    def _answer_error(self, error: GatewayError, family: str, answer_headers: bytes) -> None:
        self.relay.accounting.refusals[error.code] += 1
        self.write(error_response(error, family, answer_headers, self.keep_alive))
        self.answered(self.keep_alive)

    def _refuse_now(self, error: GatewayError) -> None:
        """Answer before the request is complete. The rest of it is read and thrown away for a moment, since
        closing on unread data resets the connection and could take the answer with it."""
        if self.is_busy:
            self._stop_listening()
            return
        self.keep_alive = False
        self.relay.accounting.refusals[error.code] += 1
        self.write(error_response(error, self._family or "", self._answer_headers(), keep_alive=False))
        self._stop_listening()
        with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _malformed(self, message: str) -> None:
        cycle = self.cycle
        if self.exchange is None and cycle is not None and not cycle.response_complete and cycle.more_body:
            # The body of a request to the control plane, which must not wait for its end.
            self._deaf = True
            if cycle.response_started:
                self.transport.close()
            else:
                super().send_400_response(message)
        elif self.is_busy:
            self._stop_listening()
        else:
            self._refuse_now(InvalidRequest(message, code="malformed_request"))

    def send_400_response(self, msg: str) -> None:
        self._malformed(msg)

    def _stop_listening(self) -> None:
        self._deaf = True
        self.keep_alive = False
        self._later = None
        self._cancel_overdue()

    # time

    def _set_overdue(self, seconds: float) -> None:
        if seconds:
            self._overdue = self.loop.call_later(seconds, self._on_overdue)

    def _cancel_overdue(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _on_overdue(self) -> None:
        self._overdue = None
        error = RequestTimeout("The request did not arrive in time.")
        if self._later is None and self._is_handing_over:
            self._deaf = True
            if not self.cycle.response_started:
                self.write(error_response(error, "", self._answer_headers(), keep_alive=False))
            self.transport.close()
        else:
            self._refuse_now(error)

    def close_if_idle(self, now: float) -> None:
        """Called by a sweep: keep-alive ends after the limit, and so does the wait for a client that does
        not take the rest of its last answer."""
        if self.idle_since and now - self.idle_since > self.limits.keep_alive_seconds and not self.is_busy:
            self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn stops: close when idle, else after the answer to what is being read or answered."""
        if self.exchange is not None or self._backlog or self._head_bytes >= 0 or self._family is not None:
            self.keep_alive = False
        else:
            super().shutdown()

    # the control plane

    @property
    def _is_handing_over(self) -> bool:
        """Is the body of a request to the control plane still to come?"""
        return self._family is None and self.cycle is not None and self.cycle.more_body

    def _hand_over(self) -> None:
        """Give the request whose head is complete to uvicorn and the ASGI application behind it."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers = self.scope["headers"] = headers
        self.expect_100_continue = expects
        try:
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self._refuse_now(InvalidRequest("The request's target is no path.", code="malformed_request"))

    def on_response_complete(self) -> None:
        if self._deaf:
            self.transport.close()
        super().on_response_complete()
        if self._backlog and not self.transport.is_closing():
            self.loop.call_soon(self._replay)

    # pipelining

    def _write_down_head(self, method: bytes) -> None:
        """Write the head as bytes; the body will follow in one piece, so its framing fields are replaced."""
        if self.parser.should_upgrade():
            self._stop_listening()
            return
        self._later_head = self._head_without(method, b"content-length", b"transfer-encoding", b"expect")

    def _head_without(self, method: bytes, *dropped: bytes) -> bytes:
        """The head that was just read, but for the fields named; no blank line."""
        return written_head(method, self.url, self.parser.get_http_version(), self.headers, dropped)

    def _write_down_end(self) -> None:
        body, self._later = self._later, None
        assert body is not None
        framing = b"content-length: %d\r\n\r\n" % len(body) if body else b"\r\n"
        request = b"".join((self._later_head, framing, body))
        self._backlog.append(request)
        self._backlog_bytes += len(request)
        if self._backlog_bytes > self.limits.stream_buffer_bytes:
            self.flow.pause_reading()
        if self.exchange is None and (self.cycle is None or self.cycle.response_complete):
            self.loop.call_soon(self._replay)

    def _replay(self) -> None:
        """Parse the next request of the backlog as if it came now."""
        busy = self.exchange is not None or (self.cycle is not None and not self.cycle.response_complete)
        if busy or not self._backlog or self.transport.is_closing():
            return
        live = (self.parser, self.url, self.headers, self.expect_100_continue, self._later, self._head_bytes)
        request = self._backlog.pop(0)
        self._backlog_bytes -= len(request)
        waiting, self._backlog = self._backlog, []
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(request)
        except httptools.HttpParserError as error:
            log.exception("request parsing failed", exc_info=error)
            self.transport.abort()
            return
        finally:
            (self.parser, self.url, self.headers, self.expect_100_continue, self._later, self._head_bytes) = (
                live
            )
            self._backlog = waiting
        if self._backlog_bytes <= self.limits.stream_buffer_bytes:
            self.flow.resume_reading()
        if self._backlog and self.exchange is None:
            self.loop.call_soon(self._replay)
