"""The life of a call: its table of states, and the straight way through it."""

from __future__ import annotations

import itertools

import orjson
import pytest

from gateway.relay.framing import LAST_CHUNK
from gateway.relay.states import (
    ADMITTED,
    ANSWERING,
    DONE,
    ROUTED,
    SENT,
    TRANSITIONS,
    IllegalTransition,
    State,
)

from .answers import DOCUMENT, JSON_ANSWER, payload, status
from .conftest import CHAT, DONE_EVENT, EVENT, STREAM_HEAD, MemoryClient, Surround, chunked


def test_the_first_state() -> None:
    assert min(State) is ADMITTED


def test_every_state_may_end_and_nothing_follows_the_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(DONE in TRANSITIONS[state] for state in State if state is not DONE)
    assert TRANSITIONS[DONE] == frozenset()
    assert TRANSITIONS[ANSWERING] == {DONE}, "nothing is repeated once the client was shown something"


@pytest.mark.parametrize(
    ("before", "after"),
    [(a, b) for a, b in itertools.product(State, State) if b not in TRANSITIONS[a]],
)
async def test_illegal_transitions_raise(surround: Surround, before: State, after: State) -> None:
    exchange, _ = surround().call()
    exchange.state = before
    with pytest.raises(IllegalTransition, match=f"{before.name} -> {after.name}"):
        exchange._to(after)
    exchange.state = SENT


async def test_a_stream_from_admission_to_its_end(surround: Surround) -> None:
    s = surround()
    exchange, client = s.call()
    assert exchange.state is ROUTED
    assert s.relay.accounting.active == 1
    assert s.worker(0).in_flight == 1
    s.clock.advance(0.2)
    connection = s.pool.openings[0].succeed()
    assert exchange.state is SENT
    assert connection.transport.written.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert connection.transport.written.endswith(b"\r\n\r\n" + CHAT)
    s.clock.advance(0.3)
    connection.data_received(STREAM_HEAD)
    assert exchange.state is SENT
    assert not client.written, "the head waits for what follows it"
    connection.data_received(chunked(EVENT))
    assert exchange.state is ANSWERING
    assert client.status == 200
    assert (
        b"server-timing: queue;dur=0.0, connect;dur=200.0, route;dur=0.00, first_byte;dur=300.0\r\n"
        in client.written
    )
    assert b"x-sluice-worker: w0\r\nx-sluice-route: test\r\n" in client.written
    connection.data_received(chunked(EVENT) + chunked(DONE_EVENT) + LAST_CHUNK)
    assert exchange.state is DONE
    assert payload(client) == EVENT * 2 + DONE_EVENT
    assert client.kept_alive
    assert s.router.placed[0].outcome == "ok"
    assert s.pool.take(s.worker(0)) is connection
    (record,) = s.records
    assert (record.end, record.status, record.worker, record.attempts) == ("ok", 200, "w0", 1)
    assert record.ttft == pytest.approx(0.5)
    s.assert_quiet()


async def test_a_document(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.sent()
    connection.data_received(JSON_ANSWER[:70])
    connection.data_received(JSON_ANSWER[70:])
    assert client.body == DOCUMENT
    assert client.kept_alive
    assert s.records[0].end == "ok"
    assert s.router.placed[0].tokens == (7, 0, 5)
    series = s.relay.accounting.of("w0", "m")
    assert (series.prompt_tokens, series.output_tokens, dict(series.ends)) == (7, 5, {"ok": 1})


async def test_a_kept_connection_is_used_again(surround: Surround) -> None:
    s = surround()
    for _ in range(3):
        exchange, client = s.call()
        connection = s.pool.openings[0].succeed() if not s.pool.connections else s.pool.connections[0]
        assert exchange.state is SENT
        connection.data_received(JSON_ANSWER)
        assert client.body == DOCUMENT
    assert len(s.pool.openings) == 1


@pytest.mark.parametrize("code", [400, 401, 404, 422, 429, 500, 501])
async def test_an_error_of_the_worker_is_shown_as_it_is(surround: Surround, code: int) -> None:
    s = surround()
    _, client, connection = s.sent()
    connection.data_received(status(code, b"retry-after: 3"))
    assert client.status == code
    assert b"retry-after: 3\r\n" in client.written
    assert orjson.loads(client.body)["error"]["message"] == "from the worker"
    assert s.records[0].end == ("ok" if code < 500 else "worker_error")
    assert len(s.router.placed) == 1


async def test_an_http_10_client_gets_the_stream_without_chunks(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.streaming(client=MemoryClient(http11=False))
    connection.data_received(chunked(DONE_EVENT) + LAST_CHUNK)
    assert client.body == EVENT + DONE_EVENT
    assert b"connection: close\r\n" in client.written
    assert client.kept_alive is False


async def test_a_stream_that_ends_with_its_connection_is_chunked_for_the_client(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.sent()
    connection.data_received(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENT + DONE_EVENT
    )
    connection.eof_received()
    assert payload(client) == EVENT + DONE_EVENT
    assert client.kept_alive
    assert connection.transport.closed
