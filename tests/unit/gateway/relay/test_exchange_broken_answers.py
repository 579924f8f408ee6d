"""Answers that do not end as they should."""

from __future__ import annotations

import orjson
import pytest

from gateway.relay.framing import LAST_CHUNK

from .answers import JSON_ANSWER, payload
from .conftest import DONE_EVENT, EVENT, STREAM_HEAD, MemoryClient, Surround, chunked


@pytest.mark.parametrize(
    ("family", "url", "event"),
    [
        ("chat", b"/v1/chat/completions", b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'),
        ("completions", b"/v1/completions", b'data: {"choices":[{"text":"data: [DONE]"}]}\n\n'),
        ("responses", b"/v1/responses", b'event: x\ndata: {"sequence_number":4}\n\n'),
        (
            "messages",
            b"/v1/messages",
            b'event: content_block_delta\ndata: {"text":"event: message_stop"}\n\n',
        ),
    ],
)
@pytest.mark.parametrize("how", ["lost", "truncated", "truncated inside an event", "malformed"])
async def test_a_stream_that_breaks_ends_in_an_error_of_its_family(
    surround: Surround, family: str, url: bytes, event: bytes, how: str
) -> None:
    s = surround()
    _, client, connection = s.sent(url=url, family=family)
    connection.data_received(STREAM_HEAD + chunked(event))
    if how == "lost":
        connection.data_received(b"1000\r\ndata: x")
        connection.connection_lost(ConnectionResetError())
    elif how == "malformed":
        connection.data_received(b"zz\r\n")
    elif how == "truncated":
        connection.data_received(LAST_CHUNK)
    else:
        connection.data_received(chunked(b"data: [DON") + LAST_CHUNK)
    stream = payload(client)
    assert client.written.endswith(LAST_CHUNK)
    assert client.kept_alive is False
    assert stream.startswith(event)
    last = stream.removeprefix(event)
    assert last.count(b"\n\n") == 1
    assert b"[DON" not in last
    told = orjson.loads(last.partition(b"data: ")[2])
    assert told["error"]["message"]
    expected = {
        "chat": (b"data: ", None),
        "completions": (b"data: ", None),
        "responses": (b"event: error\ndata: ", "error"),
        "messages": (b"event: error\ndata: ", "error"),
    }[family]
    assert last.startswith(expected[0])
    assert told.get("type") == expected[1]
    if family == "responses":
        assert told["sequence_number"] == 5
    assert s.records[0].end == ("bad_response" if "truncated" in how else "worker_gone")
    assert s.router.placed[0].outcome == "failed"


async def test_an_end_marker_without_its_blank_line_is_an_end(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.streaming()
    connection.data_received(chunked(b"data: [DONE]\n") + LAST_CHUNK)
    assert payload(client) == EVENT + b"data: [DONE]\n"
    assert s.records[0].end == "ok"


async def test_an_error_of_the_engine_inside_a_stream_is_counted_as_one(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.streaming()
    told = b'data: {"error":{"message":"CUDA","code":500}}\n\n' + DONE_EVENT
    connection.data_received(chunked(told) + LAST_CHUNK)
    assert payload(client) == EVENT + told
    assert s.records[0].end == "worker_error"
    assert s.router.placed[0].outcome == "failed"


async def test_an_http_10_client_is_told_inside_the_stream_too(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.streaming(client=MemoryClient(http11=False))
    connection.connection_lost(None)
    assert client.body.startswith(EVENT + b'data: {"error":')
    assert LAST_CHUNK not in client.body


@pytest.mark.parametrize("cut", [1, 40])
async def test_a_document_that_breaks_cuts_the_connection(surround: Surround, cut: int) -> None:
    s = surround()
    _, client, connection = s.sent()
    connection.data_received(JSON_ANSWER[:-cut])
    connection.connection_lost(None)
    assert client.aborted
    assert s.records[0].end == "worker_gone"
    assert len(s.router.placed) == 1


async def test_no_retry_after_the_first_byte(surround: Surround) -> None:
    s = surround()
    _, _, connection = s.streaming()
    connection.connection_lost(None)
    assert len(s.router.placed) == 1
    assert not s.relay.accounting.retries
