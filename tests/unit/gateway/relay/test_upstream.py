from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_adapter.api import WorkerInfo
from gateway.relay.framing import LAST_CHUNK, ChunkedReader, Framing, chunk
from gateway.relay.upstream import HEAD_BYTES, ResponseHead, UpstreamConnection
from gateway.routing.fleet import Worker

WORKER = Worker.from_info(WorkerInfo("w0", "http://127.0.0.1:9000"))


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class Taker:
    """Implements `upstream.Receiver`: writes down what it is told."""

    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.events: list[bytes] = []
        self.body = bytearray()
        self.unfinished = b""
        self.ends = 0
        self.lost: list[str] = []

    def on_head(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def on_events(self, framed: bytes) -> None:
        reader = ChunkedReader()
        payload = reader.feed(framed)
        assert reader.at_boundary, "events must be whole chunks"
        assert payload.endswith((b"\n\n", b"\n\r\n")), "chunks must be whole events"
        self.events.append(payload)

    def on_last_events(self, framed: bytes) -> None:
        self.on_events(framed)

    def on_body(self, payload: bytes) -> None:
        self.body += payload

    def on_whole(self, payload: bytes) -> None:
        self.on_body(payload)
        self.on_end()

    def on_unfinished(self, payload: bytes) -> None:
        self.unfinished += payload

    def on_end(self) -> None:
        self.ends += 1

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)

    @property
    def told(self) -> tuple[object, ...]:
        return (
            len(self.heads),
            b"".join(self.events),
            bytes(self.body),
            self.unfinished,
            self.ends,
            len(self.lost),
        )


def connected() -> tuple[UpstreamConnection, Taker, Transport]:
    connection = UpstreamConnection(WORKER, 1000)
    transport = Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    taker = Taker()
    connection.send(taker, b"POST / HTTP/1.1\r\n\r\n", b"{}")
    return connection, taker, transport


EVENTS = b"data: one\n\n: comment\n\ndata: two\ndata: lines\n\ndata: [DONE]\n\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
ANSWERS = {
    "events, a chunk each": (
        SSE + CHUNKED + b"".join(chunk(e + b"\n\n") for e in EVENTS.split(b"\n\n")[:-1]) + LAST_CHUNK,
        (1, EVENTS, b"", b"", 1, 0),
    ),
    "events in chunks that do not fit": (
        SSE + CHUNKED + b"".join(chunk(EVENTS[n : n + 7]) for n in range(0, len(EVENTS), 7)) + LAST_CHUNK,
        (1, EVENTS, b"", b"", 1, 0),
    ),
    "events with extensions and trailers": (
        SSE + CHUNKED + b"%x;x=1\r\n" % len(EVENTS) + EVENTS + b"\r\n0\r\nx: y\r\n\r\n",
        (1, EVENTS, b"", b"", 1, 0),
    ),
    "events by length": (
        SSE + b"content-length: %d\r\n\r\n" % len(EVENTS) + EVENTS,
        (1, EVENTS, b"", b"", 1, 0),
    ),
    "events with CRLF": (
        SSE + CHUNKED + chunk(EVENTS.replace(b"\n", b"\r\n")) + LAST_CHUNK,
        (1, EVENTS.replace(b"\n", b"\r\n"), b"", b"", 1, 0),
    ),
    "an unfinished last event": (
        SSE + CHUNKED + chunk(EVENTS + b"data: cut") + LAST_CHUNK,
        (1, EVENTS, b"", b"data: cut", 1, 0),
    ),
    "nothing but an unfinished event": (
        SSE + CHUNKED + chunk(b"data: x\n") + LAST_CHUNK,
        (1, b"", b"", b"data: x\n", 1, 0),
    ),
    "no events": (SSE + CHUNKED + LAST_CHUNK, (1, b"", b"", b"", 1, 0)),
    "a document": (JSON + b'content-length: 9\r\n\r\n{"a":"b"}', (1, b"", b'{"a":"b"}', b"", 1, 0)),
    "a chunked document": (
        JSON + CHUNKED + b'4\r\n{"a"\r\n5\r\n:"b"}\r\n0\r\n\r\n',
        (1, b"", b'{"a":"b"}', b"", 1, 0),
    ),
    "an empty document": (JSON + b"content-length: 0\r\n\r\n", (1, b"", b"", b"", 1, 0)),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", (1, b"", b"", b"", 1, 0)),
    "an interim answer first": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + JSON + b"content-length: 2\r\n\r\n{}",
        (1, b"", b"{}", b"", 1, 0),
    ),
}


@pytest.mark.parametrize(("wire", "told"), ANSWERS.values(), ids=ANSWERS)
def test_every_cut_tells_the_same(wire: bytes, told: tuple[object, ...]) -> None:
    for cut in range(len(wire) + 1):
        connection, taker, transport = connected()
        for piece in (wire[:cut], wire[cut:]):
            if piece:
                connection.data_received(piece)
        assert taker.told == told
        assert connection.alive
        assert connection.receiver is None
        assert not transport.aborted


@pytest.mark.parametrize(("wire", "told"), ANSWERS.values(), ids=ANSWERS)
def test_byte_by_byte_and_over_again_on_the_same_connection(wire: bytes, told: tuple[object, ...]) -> None:
    connection, taker, _ = connected()
    for _ in range(3):
        for n in range(len(wire)):
            connection.data_received(wire[n : n + 1])
        assert taker.told == told
        taker = Taker()
        connection.send(taker, b"", b"")


@given(st.sampled_from(sorted(ANSWERS)), st.data())
def test_any_cuts(name: str, data: st.DataObject) -> None:
    wire, told = ANSWERS[name]
    cuts = sorted(set(data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=12))))
    connection, taker, _ = connected()
    for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        connection.data_received(wire[a:b])
    assert taker.told == told


def test_usual_chunks_are_passed_on_as_they_are() -> None:
    connection, _, _ = connected()
    seen: list[bytes] = []
    connection.data_received(SSE + CHUNKED + chunk(b"data: 1\n\n"))
    taker = connection.receiver
    assert isinstance(taker, Taker)
    taker.on_events = seen.append  # type: ignore[method-assign]
    pieces = [chunk(b"data: %d\n\n" % n) for n in range(5)]
    for piece in pieces:
        connection.data_received(piece)
    assert all(a is b for a, b in zip(seen, pieces, strict=True))


def test_a_body_that_ends_with_the_connection() -> None:
    connection, taker, _ = connected()
    connection.data_received(JSON + b'connection: close\r\n\r\n{"a":')
    connection.data_received(b"1}")
    assert taker.ends == 0
    connection.eof_received()
    assert (bytes(taker.body), taker.ends, taker.lost) == (b'{"a":1}', 1, [])
    assert not connection.alive


def test_a_stream_that_ends_with_the_connection_inside_an_event() -> None:
    connection, taker, _ = connected()
    connection.data_received(SSE + b"\r\ndata: a\n\ndata: b")
    connection.eof_received()
    assert taker.told == (1, b"data: a\n\n", b"", b"data: b", 1, 0)


BROKEN = {
    "in the head": SSE[:20],
    "before a byte": b"",
    "between events": SSE + CHUNKED + chunk(b"data: a\n\n"),
    "inside a chunk": SSE + CHUNKED + chunk(b"data: a\n\n")[:-4],
    "before the last chunk": SSE + CHUNKED + chunk(EVENTS),
    "inside the last chunk": SSE + CHUNKED + chunk(EVENTS) + b"0\r\n",
    "inside a document": JSON + b"content-length: 9\r\n\r\n{",
    "after an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("wire", BROKEN.values(), ids=BROKEN)
def test_a_lost_connection_is_told_once(wire: bytes) -> None:
    connection, taker, _ = connected()
    if wire:
        connection.data_received(wire)
    connection.eof_received()
    connection.connection_lost(None)
    assert (taker.ends, len(taker.lost)) == (0, 1)
    assert not connection.alive
    assert connection.answering == wire.startswith(b"HTTP/1.1 200")


NONSENSE = {
    "no HTTP": b"hello\r\n\r\n",
    "both framings": JSON + b"content-length: 2\r\n" + CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "bad chunk size": SSE + CHUNKED + chunk(b"data: a\n\n") + b"xyz\r\n",
    "signed chunk size": SSE + CHUNKED + chunk(b"data: a\n\n") + b"+9\r\ndata: b\n\n\r\n",
    "chunk too long": JSON + CHUNKED + b"2\r\n{}}\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (HEAD_BYTES // 6 + 10),
    "endless event": SSE + CHUNKED + chunk(b"data: " + b"x" * 2000),
    "protocol switch": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("wire", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_told_and_ends_the_connection(wire: bytes) -> None:
    connection, taker, transport = connected()
    connection.data_received(wire)
    assert (taker.ends, len(taker.lost)) == (0, 1)
    assert "malformed" in taker.lost[0]
    assert transport.aborted
    connection.connection_lost(None)
    assert len(taker.lost) == 1


@pytest.mark.parametrize("rest", [b"x", b"HTTP/1.1 200 OK\r\n\r\n"])
@pytest.mark.parametrize("name", ["a document", "events, a chunk each", "an empty document"])
def test_bytes_that_nobody_asked_for_end_the_connection(name: str, rest: bytes) -> None:
    connection, taker, _ = connected()
    connection.data_received(ANSWERS[name][0] + rest)
    assert taker.ends == 1
    assert not connection.alive
    late, taker, transport = connected()
    late.data_received(ANSWERS[name][0])
    assert late.alive
    late.data_received(rest)
    assert not late.alive
    assert transport.aborted
    assert taker.ends == 1


@pytest.mark.parametrize("line", [b"connection: close\r\n", b"Connection: x, Close\r\n"])
def test_connection_close_is_heard(line: bytes) -> None:
    connection, taker, _ = connected()
    connection.data_received(JSON + line + b"content-length: 2\r\n\r\n{}")
    assert taker.ends == 1
    assert not connection.alive


def test_an_http_10_answer_is_the_connections_last() -> None:
    connection, taker, _ = connected()
    connection.data_received(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    assert taker.ends == 1
    assert not connection.alive


def test_an_idle_connection_that_ends_is_not_alive() -> None:
    connection, _, _ = connected()
    connection.data_received(ANSWERS["a document"][0])
    connection.eof_received()
    assert not connection.alive


def test_abandoning_while_a_piece_is_delivered() -> None:
    connection, taker, transport = connected()

    def leave(framed: bytes) -> None:
        connection.abandon()

    taker.on_events = leave  # type: ignore[method-assign]
    connection.data_received(ANSWERS["an unfinished last event"][0])
    assert transport.aborted
    assert (taker.ends, taker.unfinished, taker.lost) == (0, b"", [])


def test_abandoning_at_the_head() -> None:
    connection, taker, _ = connected()
    taker.on_head = lambda head: connection.abandon()  # type: ignore[method-assign]
    connection.data_received(ANSWERS["a document"][0])
    assert taker.told == (0, b"", b"", b"", 0, 0)


def test_another_receiver_may_take_over_within_a_read() -> None:
    connection, first, _ = connected()
    second = Taker()

    def hand_over(framed: bytes) -> None:
        connection.receiver = second

    first.on_events = hand_over  # type: ignore[method-assign]
    connection.data_received(ANSWERS["an unfinished last event"][0])
    assert (first.ends, first.unfinished) == (0, b"")
    assert (second.ends, second.unfinished) == (1, b"data: cut")


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 1 << 20])
def test_a_request_is_sent_whole(size: int) -> None:
    connection, taker, transport = connected()
    transport.written.clear()
    connection.send(taker, b"head", bytearray(size))
    assert b"".join(transport.written) == b"head" + bytes(size)
    assert len(transport.written) == (1 if size <= 64 * 1024 else 2)


def test_framing_is_told_to_the_receiver() -> None:
    connection, taker, _ = connected()
    connection.data_received(SSE + CHUNKED)
    assert (taker.heads[0].framing, taker.heads[0].events, taker.heads[0].status) == (
        Framing.CHUNKED,
        True,
        200,
    )


@given(st.binary(max_size=120))
def test_no_bytes_of_a_worker_break_the_connection(data: bytes) -> None:
    for begin in (b"", SSE + CHUNKED, JSON + CHUNKED, JSON + b"content-length: 30\r\n\r\n", SSE + b"\r\n"):
        connection, taker, _ = connected()
        connection.data_received(begin + data) if begin + data else None
        if connection.receiver is not None:
            connection.eof_received()
            connection.connection_lost(None)
        assert taker.ends + len(taker.lost) == 1
