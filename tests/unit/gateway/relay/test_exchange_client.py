"""Clients that leave, read slowly or not at all."""

from __future__ import annotations

import pytest

from gateway.relay.framing import LAST_CHUNK
from gateway.relay.settings import Admission, RelaySettings, Timeouts
from gateway.relay.states import DONE

from .answers import JSON_ANSWER, payload
from .conftest import DONE_EVENT, EVENT, STREAM_HEAD, Surround, chunked

FULL = RelaySettings(admission=Admission(per_worker=1, queue=2))


@pytest.mark.parametrize("phase", ["queued", "connecting", "sent", "head", "streaming", "document"])
async def test_a_client_that_leaves_ends_the_work_at_once(surround: Surround, phase: str) -> None:
    s = surround(FULL, workers=1)
    if phase == "queued":
        s.sent()
        exchange, client = s.call()
    elif phase == "connecting":
        exchange, client = s.call()
    else:
        exchange, client, connection = s.sent()
        begin = {"sent": b"", "head": STREAM_HEAD, "streaming": STREAM_HEAD + chunked(EVENT)}
        if data := begin.get(phase, JSON_ANSWER[:-9]):
            connection.data_received(data)
    written = bytes(client.written)
    exchange.client_gone()
    assert exchange.state is DONE
    assert s.records[-1].end == "client_gone"
    assert client.written == written
    if phase == "connecting":
        assert s.pool.openings[-1].cancelled
    elif phase != "queued":
        assert connection.transport.aborted
        assert s.router.placed[-1].outcome == "aborted"
    exchange.client_gone()
    assert len(s.records) == 1


async def test_leaving_says_nothing_about_the_worker(surround: Surround) -> None:
    s = surround(workers=1)
    for _ in range(10):
        exchange, _, _ = s.sent()
        exchange.client_gone()
    assert s.worker(0).breaker == "closed"


async def test_a_slow_reader_pauses_the_worker(surround: Surround) -> None:
    s = surround()
    exchange, client, connection = s.streaming()
    exchange.client_paused()
    assert connection.transport.paused
    exchange.client_resumed()
    assert not connection.transport.paused
    connection.data_received(chunked(DONE_EVENT) + LAST_CHUNK)
    assert payload(client) == EVENT + DONE_EVENT


async def test_a_reader_that_was_slow_before_its_answer_began(surround: Surround) -> None:
    s = surround()
    exchange, _, connection = s.sent()
    exchange.client_paused()
    assert not connection.transport.paused
    connection.data_received(STREAM_HEAD + chunked(EVENT))
    assert connection.transport.paused


async def test_a_connection_is_not_given_back_paused(surround: Surround) -> None:
    s = surround()
    exchange, _, connection = s.streaming()
    exchange.client_paused()
    connection.data_received(chunked(DONE_EVENT) + LAST_CHUNK)
    assert not connection.transport.paused
    assert s.pool.take(s.worker(0)) is connection


async def test_a_stalled_reader_is_dropped_with_a_reason(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(silence=1, stalled_client=10)))
    exchange, client, connection = s.streaming()
    exchange.client_paused()
    s.sweep(9)
    assert not client.aborted, "silence is the reader's fault now"
    s.sweep(1.1)
    assert client.aborted
    assert connection.transport.aborted
    assert s.records[0].end == "client_stalled"


async def test_stalling_does_not_count_as_silence_afterwards(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(silence=5), ping_seconds=0))
    exchange, client, _ = s.streaming()
    exchange.client_paused()
    s.sweep(8)
    exchange.client_resumed()
    s.sweep(4)
    assert not client.is_over
