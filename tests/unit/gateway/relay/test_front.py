"""The client's connection, fed bytes in memory: every cut gives the same, and no bytes break it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from gateway.relay.front import Front
from gateway.relay.settings import HttpLimits, RelaySettings

from .conftest import MemoryTransport, Surroundings, surroundings

BODY = b'{"model":"m","messages":[]}'
RELAYED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 27\r\n\r\n" + BODY
CHUNKED = (
    b"POST /v1/completions?q HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    b'b;x=y\r\n{"model":"m\r\n2\r\n"}\r\n0\r\ntrailer: t\r\n\r\n'
)
UNKNOWN = b'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 13\r\n\r\n{"model":"n"}'
CONTROL = b"PUT /anything HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
UPGRADE = RELAYED.replace(b"host: x\r\n", b"host: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


async def control_plane(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]
) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    head = {
        "type": "http.response.start",
        "status": 299,
        "headers": [(b"content-length", b"%d" % len(str(size)))],
    }
    await send(head)
    await send({"type": "http.response.body", "body": str(size).encode()})


class Bench:
    """A gateway in a loop that runs only while a test feeds it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.config = uvicorn.Config(control_plane, log_config=None, access_log=False, lifespan="off")
        self.limits = HttpLimits(header_bytes=2000, body_bytes=2000, header_seconds=0, body_seconds=0)

    async def _feed(self, pieces: list[bytes]) -> tuple[bytes, list[bytes], Surroundings]:
        s = surroundings(asyncio.get_running_loop(), RelaySettings(limits=self.limits))
        server = ServerState()
        front = Front(s.relay, config=self.config, server_state=server, app_state={})
        transport = MemoryTransport()
        front.connection_made(transport)  # type: ignore[arg-type]
        for piece in pieces:
            if transport.is_closing():
                break
            front.data_received(piece)
            await self._workers_answer(s)
        await self._workers_answer(s)
        if not transport.aborted:
            front.connection_lost(None)
        else:
            front.connection_lost(ConnectionAbortedError())
        for task in list(server.tasks):
            await task
        s.assert_quiet()
        sent = [bytes(c.transport.written) for c in s.pool.connections]  # type: ignore[attr-defined]
        return bytes(transport.written), sent, s

    async def _workers_answer(self, s: Surroundings) -> None:
        for _ in range(40):
            for opening in [o for o in s.pool.openings if o.pending]:
                opening.succeed()
            for connection in [c for c in s.pool.connections if c.receiver is not None]:
                connection.data_received(ANSWER)
            await asyncio.sleep(0)

    def feed(self, *pieces: bytes) -> tuple[bytes, list[bytes], Surroundings]:
        return self.loop.run_until_complete(self._feed(list(pieces)))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.loop.close()


def statuses(written: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", written)]


def bodies(sent: list[bytes]) -> list[bytes]:
    return [part.partition(b"\r\n\r\n")[2] for data in sent for part in data.split(b"POST ")[1:]]


EXPECTED = {
    "relayed": (RELAYED, [200], [BODY]),
    "chunked": (CHUNKED, [200], [b'{"model":"m"}']),
    "unknown": (UNKNOWN, [404], []),
    "control": (CONTROL, [299], []),
    "upgrade": (UPGRADE, [200], [BODY]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_cut_of_one_request(bench: Bench, name: str) -> None:
    data, expected, to_workers = EXPECTED[name]
    for cut in range(1, len(data)):
        written, sent, _ = bench.feed(data[:cut], data[cut:])
        assert statuses(written) == expected, cut
        assert bodies(sent) == to_workers, cut


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(EXPECTED)), min_size=2, max_size=4), st.data())
def test_several_requests_at_any_cuts(bench: Bench, names: list[str], data: st.DataObject) -> None:
    wire = b"".join(EXPECTED[name][0] for name in names)
    cuts = sorted(set(data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=6))))
    written, sent, _ = bench.feed(*[wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)])
    assert statuses(written) == [status for name in names for status in EXPECTED[name][1]]
    assert bodies(sent) == [body for name in names for body in EXPECTED[name][2]]


ALPHABET = [
    b"POST ",
    b"GET ",
    b"/v1/chat/completions",
    b"/x",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"\r\n",
    b"\n",
    b"\r",
    b": ",
    b"host: x",
    b"content-length: ",
    b"transfer-encoding: chunked",
    b"connection: ",
    b"upgrade",
    b"close",
    b"websocket",
    b"expect: 100-continue",
    b"0",
    b"5",
    b"1b",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    BODY,
    b"\0",
    b"\xff",
    b";",
    b" ",
    b"http://a",
    b"*",
    b"CONNECT ",
    b"OPTIONS ",
    b"PRI ",
    RELAYED,
    CHUNKED,
    CONTROL,
    b"x" * 3000,
]


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.sampled_from(ALPHABET) | st.binary(max_size=8), max_size=14), cut=st.floats(0, 1))
@example(pieces=[b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n"], cut=0)
@example(pieces=[RELAYED, b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"], cut=0)
def test_no_bytes_break_the_connection(bench: Bench, pieces: list[bytes], cut: float) -> None:
    _unharmed(bench, b"".join(pieces), cut)


@settings(max_examples=150, deadline=None)
@given(
    request_bytes=st.sampled_from([e[0] for e in EXPECTED.values()]),
    damages=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), min_size=1, max_size=3),
    cut=st.floats(0, 1),
)
def test_no_damage_to_a_request_breaks_the_connection(
    bench: Bench, request_bytes: bytes, damages: list[tuple[int, bytes]], cut: float
) -> None:
    wire = bytearray(request_bytes)
    for position, replacement in damages:
        wire[position % len(wire) : position % len(wire) + 1] = replacement
    _unharmed(bench, bytes(wire) + RELAYED, cut)


def _unharmed(bench: Bench, wire: bytes, cut: float) -> None:
    middle = int(cut * len(wire))
    with capture_logs() as logged:
        written, sent, s = bench.feed(*[piece for piece in (wire[:middle], wire[middle:]) if piece])
    assert not logged
    assert all(100 <= status < 600 for status in statuses(written))
    # Whatever reached a worker is a request whose framing is ours.
    for data_sent in sent:
        for request in data_sent.split(b"POST ")[1:]:
            head, _, body = request.partition(b"\r\n\r\n")
            lengths = re.findall(rb"\r\ncontent-length: (\d+)", head)
            assert [int(length) for length in lengths] == [len(body)]
            assert b"transfer-encoding" not in head
    assert len(s.records) <= wire.count(b"/v1/")
