"""Recorded answers of engines, relayed at every cut: the client gets the same bytes, whatever the reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.relay.framing import ChunkedReader
from gateway.relay.request import FAMILIES

from .conftest import MemoryClient, Surround, Surroundings, surroundings

RECORDINGS = Path(__file__).parents[3] / "contract" / "relay" / "recordings"
NAMES = sorted(str(path.relative_to(RECORDINGS))[:-5] for path in RECORDINGS.glob("*/*.http"))
PATHS = {
    "chat": b"/v1/chat/completions",
    "completion": b"/v1/completions",
    "responses": b"/v1/responses",
    "messages": b"/v1/messages",
    "count": b"/v1/messages/count_tokens",
}


class Seen:
    """One response, read by httptools."""

    def __init__(self, raw: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.complete = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(raw)
        self.status = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def path_of(name: str) -> bytes:
    return PATHS.get(name.partition("/")[2].partition("-")[0], b"/v1/embeddings")


def relayed(s: Surroundings, name: str, pieces: list[bytes], *, http11: bool = True) -> MemoryClient:
    path = path_of(name)
    exchange, client = s.call(url=path, family=FAMILIES[path], client=MemoryClient(http11=http11))
    if s.pool.openings and s.pool.openings[-1].pending:
        s.pool.openings[-1].succeed()
    attempt = exchange.attempt
    assert attempt is not None
    connection = attempt.connection
    assert connection is not None
    for piece in pieces:
        if piece:
            connection.data_received(piece)
    return client


def telling_cuts(raw: bytes) -> list[int]:
    """All positions around line ends, where framing and events are decided, and some in between."""
    near = {n + d for n, byte in enumerate(raw) if byte in b"\r\n" for d in (0, 1, 2)}
    return sorted(near | set(range(1, len(raw), 23)) | {len(raw)} - {0})


def test_there_are_recordings_of_vllm() -> None:
    assert sum(name.startswith("vllm-") for name in NAMES) >= 20
    for name in NAMES:
        assert Seen((RECORDINGS / f"{name}.http").read_bytes()).complete


@pytest.mark.parametrize("name", NAMES)
async def test_every_cut_that_matters(surround: Surround, name: str) -> None:
    raw = (RECORDINGS / f"{name}.http").read_bytes()
    original = Seen(raw)
    s = surround(workers=1)
    for cut in telling_cuts(raw):
        client = relayed(s, name, [raw[:cut], raw[cut:]])
        head, _, framed = bytes(client.written).partition(b"\r\n\r\n")
        if original.headers.get(b"transfer-encoding"):
            reader = ChunkedReader()
            body = reader.feed(framed)
            assert reader.done
        else:
            body = framed
        assert body == original.body, cut
        assert client.kept_alive
        assert head.startswith(b"HTTP/1.1 %d " % original.status)
    seen = Seen(bytes(client.written))
    hidden = {b"server", b"transfer-encoding", b"content-length", b"x-request-id"}
    assert {k: v for k, v in original.headers.items() if k not in hidden}.items() <= seen.headers.items()
    assert {record.end for record in s.records} == {"ok"}
    assert len(s.pool.openings) == 1


@pytest.mark.parametrize("name", [n for n in NAMES if "stream" in n and "too-long" not in n])
def test_usual_reads_are_passed_on_untouched(surroundings_in_loop: Surround, name: str) -> None:
    """One chunk per read, as engines send: even the framing is the engine's own."""
    raw = (RECORDINGS / f"{name}.http").read_bytes()
    head, _, framed = raw.partition(b"\r\n\r\n")
    chunks = [part + b"\n\n\r\n" for part in framed.split(b"\n\n\r\n")]
    chunks[-1] = chunks[-1].removesuffix(b"\n\n\r\n")
    client = relayed(surroundings_in_loop(workers=1), name, [head + b"\r\n\r\n", *chunks])
    assert client.body == framed


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(NAMES or [""]), data=st.data(), http11=st.booleans())
def test_many_cuts_and_old_clients(name: str, data: st.DataObject, http11: bool) -> None:
    raw = (RECORDINGS / f"{name}.http").read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(1, len(raw)), max_size=30)))
    s = _surroundings()
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    client = relayed(s, name, pieces, http11=http11)
    if http11:
        assert Seen(bytes(client.written)).body == Seen(raw).body
    else:
        assert client.body == Seen(raw).body
    s.assert_quiet()


def _surroundings() -> Surroundings:
    async def make() -> Surroundings:
        return surroundings(asyncio.get_running_loop(), workers=1)

    return asyncio.run(make())
