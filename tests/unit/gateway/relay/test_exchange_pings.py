"""Comments that keep a quiet stream open."""

from __future__ import annotations

import pytest

from gateway.relay.framing import LAST_CHUNK
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.relay.states import ANSWERING

from .answers import DOCUMENT, JSON_ANSWER, payload
from .conftest import DONE_EVENT, EVENT, STREAM_HEAD, Surround, chunked


async def test_pings_start_once_the_worker_has_accepted(surround: Surround) -> None:
    s = surround(RelaySettings(ping_seconds=2))
    _, client, connection = s.sent()
    s.sweep(2.1)
    assert not client.written, "an early error must keep its status"
    connection.data_received(STREAM_HEAD)
    s.sweep(0.1)
    assert client.status == 200
    assert client.body == b"7\r\n: ping\n\r\n"
    s.sweep(1)
    assert client.body == b"7\r\n: ping\n\r\n"
    s.sweep(1.1)
    assert client.body == b"7\r\n: ping\n\r\n" * 2
    connection.data_received(chunked(EVENT) + chunked(DONE_EVENT) + LAST_CHUNK)
    assert payload(client) == b": ping\n: ping\n" + EVENT + DONE_EVENT
    assert b"\n\n: ping\n\n" not in payload(client)


async def test_a_ping_is_no_first_byte(surround: Surround) -> None:
    settings = RelaySettings(ping_seconds=2, timeouts=Timeouts(first_byte=100, silence=10))
    s = surround(settings)
    exchange, client, connection = s.sent()
    connection.data_received(STREAM_HEAD)
    for _ in range(20):
        s.sweep(2.1)
    assert exchange.state is ANSWERING
    assert s.router.placed[0].first_bytes == 0
    connection.data_received(chunked(EVENT))
    assert s.router.placed[0].first_bytes == 1
    s.sweep(10.1)
    assert client.kept_alive is False
    assert s.records[0].ttft == pytest.approx(42.0)
    assert s.records[0].end == "timeout_silence"


async def test_pings_do_not_outlast_the_first_byte_timeout(surround: Surround) -> None:
    s = surround(RelaySettings(ping_seconds=2, timeouts=Timeouts(first_byte=9, silence=1)))
    _, client, connection = s.sent()
    connection.data_received(STREAM_HEAD)
    for _ in range(3):
        s.sweep(2.1)
    assert not client.is_over
    s.sweep(3)
    assert client.kept_alive is False
    assert b'data: {"error":' in payload(client)
    assert s.records[0].end == "timeout_first_byte"


async def test_a_document_is_never_pinged(surround: Surround) -> None:
    s = surround(RelaySettings(ping_seconds=1))
    _, client, connection = s.sent()
    connection.data_received(JSON_ANSWER[:-5])
    s.sweep(3)
    connection.data_received(JSON_ANSWER[-5:])
    assert client.body == DOCUMENT
