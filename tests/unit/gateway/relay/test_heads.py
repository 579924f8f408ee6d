from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthenticationFailed, GatewayError, RateLimited, UpstreamFailed
from gateway.relay.fields import HOP_BY_HOP, Headers, sent_on_lines, status_line
from gateway.relay.framing import Framing, FramingError
from gateway.relay.heads import error_response, request_head, response_head
from gateway.relay.upstream import ResponseHead, framing_of, read_head


class _Head:
    """A head read back by httptools."""

    def __init__(self, raw: bytes, *, response: bool) -> None:
        self.headers: Headers = []
        self.url = b""
        self.complete = False
        self.parser = (httptools.HttpResponseParser if response else httptools.HttpRequestParser)(self)
        self.parser.feed_data(raw)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True

    def __getitem__(self, name: bytes) -> list[bytes]:
        return [v for n, v in self.headers if n == name]

    @property
    def names(self) -> set[bytes]:
        return {n for n, _ in self.headers}


def to_worker(headers: Headers, extra: bytes = b"", length: int = 2) -> _Head:
    raw = request_head(b"/v1/x?q=1", b"w:1", sent_on_lines(headers), extra, length)
    return _Head(raw + b"x" * length, response=False)


def to_client(raw: bytes, *, http11: bool = True, keep_alive: bool = True) -> _Head:
    head = response_head(read_head(raw), b"x-request-id: id\r\n", http11, keep_alive)
    return _Head(head, response=True)


def answer(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\n%b\r\n" % (status, b"".join(line + b"\r\n" for line in lines))


def test_a_request_is_passed_on_with_our_framing_and_host() -> None:
    head = to_worker([(b"host", b"evil"), (b"content-type", b"application/json"), (b"content-length", b"9")])
    assert head.url == b"/v1/x?q=1"
    assert head.headers == [
        (b"host", b"w:1"),
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"content-length", b"2"),
    ]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_fields_stay_on_their_hop(name: bytes) -> None:
    value = b"chunked" if name == b"transfer-encoding" else b"x"
    assert name not in to_worker([(name, value)]).names
    if name != b"transfer-encoding":
        passed = to_client(answer(b"%b: %b" % (name, value), b"content-length: 0"))
        assert name not in passed.names


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"expect", b"accept-encoding", b"origin"])
def test_what_is_between_client_and_gateway_stays_there(name: bytes) -> None:
    assert b"x-mine" not in to_worker([(name, b"x-mine")]).names
    assert b"x-mine" not in [v for _, v in to_worker([(name, b"x-mine")]).headers]


@pytest.mark.parametrize("connection", [b"X-A, x-b", b"x-a,x-b,", b" x-a ,\tX-B"])
def test_fields_named_in_connection_are_dropped(connection: bytes) -> None:
    head = to_worker([(b"x-a", b"1"), (b"connection", connection), (b"x-b", b"2"), (b"x-c", b"3")])
    assert head.names == {b"host", b"x-c", b"accept-encoding", b"content-length"}
    back = to_client(
        answer(b"x-a: 1", b"Connection: " + connection.strip(), b"X-B: 2", b"x-c: 3", b"content-length: 0")
    )
    assert back.names == {b"x-c", b"content-length", b"x-request-id"}  # fmt: skip


def test_several_connection_fields() -> None:
    head = to_worker(
        [(b"connection", b"x-a"), (b"connection", b"close, x-b"), (b"x-a", b"1"), (b"x-b", b"2")]
    )
    assert head.names == {b"host", b"accept-encoding", b"content-length"}


def test_connection_cannot_take_away_what_we_say() -> None:
    raw = answer(
        b"connection: content-length, content-type, x-request-id", b"content-type: a", b"content-length: 3"
    )
    head = to_client(raw)  # fmt: skip
    assert (head[b"content-length"], head[b"x-request-id"], head[b"content-type"]) == ([b"3"], [b"id"], [])
    request = to_worker([(b"connection", b"host, content-length, x-request-id")], b"x-request-id: ours\r\n")
    assert (request[b"host"], request[b"content-length"]) == ([b"w:1"], [b"2"])
    assert request[b"x-request-id"] == [b"ours"]


def test_our_lines_replace_the_clients() -> None:
    head = to_worker(
        [(b"x-request-id", b"theirs"), (b"traceparent", b"theirs"), (b"authorization", b"Bearer client")],
        b"authorization: Bearer worker\r\nx-request-id: ours\r\ntraceparent: ours\r\n",
    )
    assert head[b"x-request-id"] == head[b"traceparent"] == [b"ours"]
    assert head[b"authorization"] == [b"Bearer worker"]


def test_repeated_fields_keep_their_order() -> None:
    head = to_worker([(b"x", b"1"), (b"y", b"2"), (b"x", b"3")])
    assert head[b"x"] == [b"1", b"3"]


FRAMINGS = {
    "length": (answer(b"content-length: 5"), {b"content-length": b"5"}),
    "zero length": (answer(b"content-length: 0"), {b"content-length": b"0"}),
    "chunked": (answer(b"transfer-encoding: chunked"), {b"transfer-encoding": b"chunked"}),
    "until close": (answer(b"connection: close"), {b"transfer-encoding": b"chunked"}),
    "204": (answer(status=b"204 No Content"), {}),
    "304": (answer(b"etag: x", status=b"304 Not Modified"), {}),
    "events": (
        answer(b"content-type: text/event-stream", b"transfer-encoding: chunked"),
        {b"transfer-encoding": b"chunked"},
    ),
    "events with a length": (
        answer(b"content-type: text/event-stream", b"content-length: 50"),
        {b"transfer-encoding": b"chunked"},
    ),
}


@pytest.mark.parametrize(("raw", "expected"), FRAMINGS.values(), ids=FRAMINGS)
def test_an_answer_has_exactly_one_framing(raw: bytes, expected: dict[bytes, bytes]) -> None:
    head = to_client(raw)
    framing = {n: v for n, v in head.headers if n in (b"content-length", b"transfer-encoding")}
    assert framing == expected
    assert len(head[b"content-length"]) + len(head[b"transfer-encoding"]) == len(expected)
    assert b"connection" not in head.names


@pytest.mark.parametrize("raw", [raw for raw, _ in FRAMINGS.values()], ids=FRAMINGS)
def test_an_http_10_client_gets_no_chunks(raw: bytes) -> None:
    head = to_client(raw, http11=False, keep_alive=False)
    assert b"transfer-encoding" not in head.names
    assert head[b"connection"] == [b"close"]


def test_streams_are_not_to_be_buffered() -> None:
    head = to_client(answer(b"content-type: text/event-stream", b"transfer-encoding: chunked"))
    assert head[b"x-accel-buffering"] == [b"no"]
    assert head[b"cache-control"] == [b"no-cache"]
    told = answer(
        b"content-type: text/event-stream; charset=utf-8",
        b"Cache-Control: no-store",
        b"x-accel-buffering: yes",
        b"transfer-encoding: chunked",
    )
    assert to_client(told)[b"cache-control"] == [b"no-store"]
    assert to_client(told)[b"x-accel-buffering"] == [b"no"]


def test_a_worker_does_not_say_who_may_read_answers_in_a_browser() -> None:
    head = to_client(
        answer(
            b"access-control-allow-origin: *",
            b"access-control-allow-credentials: true",
            b"access-control-expose-headers: x",
            b"server: uvicorn",
            b"x-request-id: theirs",
            b"content-length: 0",
        )
    )
    assert head.names == {b"content-length", b"x-request-id"}
    assert head[b"x-request-id"] == [b"id"]


field_names = st.sampled_from([b"x-a", b"x-b", b"connection", b"accept", b"te", b"upgrade", b"host", b"via"])
field_values = (
    st.binary(max_size=12).map(lambda v: bytes(b for b in v if b in b"\t" or 32 <= b != 127)).map(bytes.strip)
)


@given(st.lists(st.tuples(field_names, field_values), max_size=8))
def test_no_request_can_forge_lines(headers: Headers) -> None:
    head = to_worker(headers)
    assert head.complete
    assert head.names <= {n for n, _ in headers} - HOP_BY_HOP | {
        b"host",
        b"accept-encoding",
        b"content-length",
    }
    assert head[b"host"] == [b"w:1"]
    assert head[b"content-length"] == [b"2"]


NONSENSE = {
    "both framings": answer(b"content-length: 3", b"transfer-encoding: chunked"),
    "two lengths": answer(b"content-length: 3", b"content-length: 4"),
    "list of lengths": answer(b"content-length: 3, 3"),
    "signed length": answer(b"content-length: +3"),
    "huge length": answer(b"content-length: 99999999999999999999"),
    "gzip": answer(b"transfer-encoding: gzip, chunked"),
    "identity": answer(b"transfer-encoding: identity"),
    "folded line": answer(b"x: a\r\n b", b"content-length: 0"),
    "bare LF": answer(b"x: a\ny: b", b"content-length: 0"),
    "bare CR": answer(b"x: a\ry: b", b"content-length: 0"),
    "NUL": answer(b"x: a\0b", b"content-length: 0"),
    "blank before colon": answer(b"content-length : 3"),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "status of two digits": answer(status=b"42 OK"),
    "protocol switch": answer(b"connection: upgrade", b"upgrade: x", status=b"101 Switching Protocols"),
}


@pytest.mark.parametrize("raw", NONSENSE.values(), ids=NONSENSE)
def test_answers_that_make_no_sense_are_refused(raw: bytes) -> None:
    with pytest.raises((FramingError, httptools.HttpParserError, httptools.HttpParserUpgrade)):
        read_head(raw)


def test_framing_follows_rfc_9112() -> None:
    assert framing_of(200, [(b"content-length", b"7")]) == (Framing.LENGTH, 7)
    assert framing_of(200, [(b"content-length", b"0")]) == (Framing.NONE, 0)
    assert framing_of(200, [(b"transfer-encoding", b"Chunked ")]) == (Framing.CHUNKED, 0)
    assert framing_of(200, []) == (Framing.CLOSE, 0)
    assert framing_of(204, [(b"content-length", b"7")]) == (Framing.NONE, 0)
    assert framing_of(100, []) == (Framing.NONE, 0)


def test_an_encoded_stream_is_no_event_stream() -> None:
    assert read_head(answer(b"content-type: text/event-stream", b"content-length: 3")).events
    encoded = read_head(
        answer(b"content-type: text/event-stream", b"content-encoding: gzip", b"content-length: 3")
    )
    assert not encoded.events


def test_remembered_heads_are_the_same() -> None:
    raws = [answer(b"content-length: %d" % n) for n in range(400)]
    for raw in raws + raws:
        head: ResponseHead = read_head(raw)
        assert b"content-length: %d\r\n" % head.length in raw


@pytest.mark.parametrize("family", ["chat", "messages", ""])
def test_error_responses(family: str) -> None:
    raw = error_response(
        RateLimited("full", retry_after=7.4), family, b"x-request-id: id\r\n", keep_alive=True
    )
    head = _Head(raw, response=True)
    assert (head[b"retry-after"], head[b"x-request-id"]) == ([b"7"], [b"id"])
    body = raw.partition(b"\r\n\r\n")[2]
    assert head[b"content-length"] == [b"%d" % len(body)]
    assert body.startswith(b'{"type":"error","error":{' if family == "messages" else b'{"error":{')
    closing = _Head(error_response(UpstreamFailed("x"), family, b"", keep_alive=False), response=True)
    assert closing[b"connection"] == [b"close"]


def test_error_responses_say_how_to_come_back_and_what_is_asked_for() -> None:
    soon = _Head(
        error_response(RateLimited("full", retry_after=0.01), "chat", b"", keep_alive=True), response=True
    )
    assert soon[b"retry-after"] == [b"1"]  # fmt: skip
    asked = _Head(error_response(AuthenticationFailed("no"), "chat", b"", keep_alive=True), response=True)
    assert asked[b"www-authenticate"] == [b"Bearer"]


@given(st.text(max_size=30))
def test_no_message_breaks_out_of_an_error(message: str) -> None:
    message = message.encode("utf-8", "replace").decode()
    raw = error_response(GatewayError(message), "chat", b"", keep_alive=True)
    head = _Head(raw, response=True)
    assert head.names == {b"content-type", b"content-length"}


def test_unknown_statuses_have_a_line() -> None:
    assert status_line(200) == b"HTTP/1.1 200 OK\r\n"
    assert status_line(599) == b"HTTP/1.1 599 \r\n"
