from __future__ import annotations

import itertools
from dataclasses import replace

import orjson
import pytest

from engine_adapter.api import WorkerInfo
from gateway.relay import deadlines
from gateway.relay.exchange import (
    ADMITTED,
    ANSWERING,
    DONE,
    QUEUED,
    ROUTED,
    SENT,
    TRANSITIONS,
    IllegalTransition,
    State,
)
from gateway.relay.framing import LAST_CHUNK, ChunkedReader
from gateway.relay.settings import Admission, Hedging, RelaySettings, Retries, Timeouts

from .conftest import CHAT, DONE_EVENT, EVENT, STREAM_HEAD, MemoryClient, Surround, Surroundings, chunked

DOCUMENT = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}'
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
JSON_ANSWER = JSON_HEAD % len(DOCUMENT) + DOCUMENT
FULL = RelaySettings(admission=Admission(per_worker=1, queue=2))
HEDGED = RelaySettings(hedging=Hedging(enabled=True, min_seconds=0.1))


def status(code: int, *lines: bytes) -> bytes:
    body = b'{"error":{"message":"from the worker"}}'
    head = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (code, head, len(body), body)


def payload(client: MemoryClient) -> bytes:
    reader = ChunkedReader()
    return reader.feed(client.body)


def error(client: MemoryClient) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(client.body)["error"]
    return found


def hedging(s: Surroundings) -> None:
    """Let it be known that first bytes usually come within 0.1 s."""
    assert s.relay.hedge_delay is not None
    for _ in range(20):
        s.relay.hedge_delay.observe(0.01)


# the table


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


# the straight way


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
        b"server-timing: queue;dur=0.0, route;dur=0.00, connect;dur=200.0, first_byte;dur=300.0\r\n"
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
    assert s.router.placed[0].tokens == (7, 0, 5)
    assert s.records[0].end == "ok"
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


# retries, before anything was shown


async def test_a_refused_connection_is_tried_elsewhere(surround: Surround) -> None:
    s = surround()
    exchange, client = s.call()
    s.pool.openings[0].fail()
    assert exchange.state is ROUTED
    s.pool.openings[1].succeed().data_received(JSON_ANSWER)
    assert client.status == 200
    assert [p.worker.id for p in s.router.placed] == ["w0", "w1"]
    assert [p.outcome for p in s.router.placed] == ["failed", "ok"]
    assert dict(s.relay.accounting.retries) == {"connect": 1}
    assert s.worker(0).breaker == "open"


async def test_what_waits_at_a_worker_that_stopped_answering_is_tried_elsewhere(surround: Surround) -> None:
    """Its health checks failed; without this the request would wait for its first byte to the limit."""
    s = surround()
    exchange, client, _ = s.sent()
    s.worker(0).health, s.worker(0).message = "unready", "does not answer within 2 s"
    deadlines.check(exchange, s.clock())
    s.pool.openings[1].succeed().data_received(JSON_ANSWER)
    assert client.status == 200
    assert [(p.worker.id, p.outcome) for p in s.router.placed] == [("w0", "failed"), ("w1", "ok")]
    assert dict(s.relay.accounting.retries) == {"unready": 1}


async def test_where_nobody_else_can_do_it_a_request_waits_for_its_worker(surround: Surround) -> None:
    s = surround()
    exchange, client, connection = s.sent()
    for worker in (s.worker(0), s.worker(1)):
        worker.health = "unready"
    deadlines.check(exchange, s.clock())
    deadlines.check(exchange, s.clock())
    assert exchange.state is SENT
    connection.data_received(JSON_ANSWER)
    assert client.status == 200
    assert s.relay.accounting.retries_denied == 0


async def test_leaving_a_worker_needs_the_retry_budget_and_asks_for_it_once(surround: Surround) -> None:
    s = surround(settings=RelaySettings(retries=Retries(budget=0.0, budget_floor=0)))
    exchange, _, _ = s.sent()
    s.worker(0).health = "unready"
    for _ in range(3):
        deadlines.check(exchange, s.clock())
    assert exchange.state is SENT
    assert s.relay.accounting.retries_denied == 1


async def test_an_answer_that_has_begun_stays_where_it_is(surround: Surround) -> None:
    s = surround()
    exchange, client, connection = s.sent()
    connection.data_received(STREAM_HEAD)
    s.worker(0).health = "unready"
    deadlines.check(exchange, s.clock())
    connection.data_received(chunked(EVENT) + chunked(DONE_EVENT) + LAST_CHUNK)
    assert client.status == 200
    assert len(s.router.placed) == 1


async def test_a_dead_worker_costs_one_attempt_not_one_per_request(surround: Surround) -> None:
    s = surround()
    s.call()
    s.pool.openings[0].fail()
    for _ in range(5):
        s.call()
    assert [p.worker.id for p in s.router.placed] == ["w0"] + ["w1"] * 6


@pytest.mark.parametrize("answered", [b"", STREAM_HEAD[:30], STREAM_HEAD])
async def test_a_worker_that_breaks_before_its_first_byte(surround: Surround, answered: bytes) -> None:
    s = surround()
    exchange, client, connection = s.sent()
    if answered:
        connection.data_received(answered)
    connection.connection_lost(ConnectionResetError(104, "reset"))
    assert exchange.state is ROUTED
    s.pool.openings[1].succeed().data_received(JSON_ANSWER)
    assert client.status == 200
    assert dict(s.relay.accounting.retries) == {"gone": 1}


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_an_unavailable_worker_is_not_shown_while_another_may_do_better(
    surround: Surround, code: int
) -> None:
    s = surround()
    _, client, connection = s.sent()
    connection.data_received(status(code))
    s.pool.openings[1].succeed().data_received(JSON_ANSWER)
    assert client.status == 200
    assert dict(s.relay.accounting.retries) == {"status": 1}
    assert connection.transport.aborted


async def test_if_nobody_else_can_do_it_the_workers_own_words_are_shown(surround: Surround) -> None:
    s = surround(workers=1)
    _, client, connection = s.sent()
    connection.data_received(status(503, b"retry-after: 9"))
    assert client.status == 503
    assert b"retry-after: 9\r\n" in client.written
    assert orjson.loads(client.body)["error"]["message"] == "from the worker"
    assert s.relay.accounting.retries_denied == 0


async def test_the_last_try_is_shown(surround: Surround) -> None:
    s = surround()
    _, client, first = s.sent()
    first.data_received(status(503))
    s.pool.openings[1].succeed().data_received(status(502))
    assert client.status == 502
    assert [p.outcome for p in s.router.placed] == ["failed", "failed"]


async def test_all_workers_refuse(surround: Surround) -> None:
    s = surround()
    _, client = s.call()
    s.pool.openings[0].fail()
    s.pool.openings[1].fail()
    assert client.status == 502
    assert error(client)["code"] == "worker_failed"
    assert "w1 cannot be reached: connection refused" in str(error(client)["message"])
    assert (s.records[0].end, s.records[0].attempts) == ("worker_gone", 2)


async def test_no_more_attempts_than_allowed(surround: Surround) -> None:
    s = surround(RelaySettings(retries=Retries(attempts=2)), workers=3)
    _, client = s.call()
    s.pool.openings[0].fail()
    s.pool.openings[1].fail()
    assert client.status == 502
    assert len(s.router.placed) == 2


async def test_no_more_retries_than_the_budget_allows(surround: Surround) -> None:
    settings = RelaySettings(retries=Retries(budget=0.0, budget_floor=1))
    settings = replace(settings, health=replace(settings.health, breaker_failures=1000))
    s = surround(settings)
    _, first, connection = s.sent()
    connection.connection_lost(None)
    s.pool.openings[-1].succeed().data_received(JSON_ANSWER)
    _, second, connection = s.sent()
    connection.connection_lost(None)
    assert (first.status, second.status) == (200, 502)
    assert s.relay.accounting.retries_denied == 1


async def test_a_draining_gateway_does_not_retry(surround: Surround) -> None:
    s = surround()
    _, client = s.call()
    s.relay._drain.requested = True
    s.pool.openings[0].fail()
    assert client.status == 502


async def test_a_stale_connection_is_replaced_without_a_word(surround: Surround) -> None:
    s = surround(RelaySettings(retries=Retries(budget=0.0, budget_floor=0)))
    _, _, connection = s.sent()
    connection.data_received(JSON_ANSWER)
    s.clock.advance(30)
    exchange, client = s.call()
    assert exchange.state is SENT
    connection.connection_lost(None)
    s.sweep(0.2)
    fresh = s.pool.openings[-1].succeed()
    assert fresh is not connection
    fresh.data_received(JSON_ANSWER)
    assert client.status == 200
    assert s.records[-1].attempts == 1
    assert s.worker(0).breaker == "closed"
    assert not s.relay.accounting.retries


async def test_a_stale_connection_to_a_worker_that_is_gone(surround: Surround) -> None:
    s = surround()
    _, _, connection = s.sent()
    connection.data_received(JSON_ANSWER)
    _, client = s.call()
    connection.connection_lost(None)
    s.pool.openings[-1].fail()
    s.pool.openings[-1].succeed().data_received(JSON_ANSWER)
    assert client.status == 200
    assert [p.worker.id for p in s.router.placed] == ["w0", "w0", "w1"]


async def test_a_fresh_connection_that_breaks_is_a_failure(surround: Surround) -> None:
    s = surround(workers=1)
    _, client, connection = s.sent()
    connection.connection_lost(None)
    assert client.status == 502
    assert len(s.pool.openings) == 1


# admission


async def test_an_unknown_model(surround: Surround) -> None:
    s = surround()
    exchange, client = s.call(b'{"model":"x"}')
    assert exchange.state is DONE
    assert client.status == 404
    assert (error(client)["code"], error(client)["param"]) == ("model_not_found", "model")
    assert dict(s.relay.accounting.refusals) == {"model_not_found": 1}
    assert client.kept_alive


async def test_nobody_is_ready(surround: Surround) -> None:
    s = surround()
    for worker in s.fleet:
        worker.health = "unready"
    _, client = s.call()
    assert client.status == 503
    assert error(client)["code"] == "no_worker"
    assert b"retry-after: " in client.written


async def test_the_queue_by_priority_then_by_time(surround: Surround) -> None:
    s = surround(RelaySettings(admission=Admission(per_worker=1, queue=10)), workers=1)
    _, _, connection = s.sent()
    low, first, second, high = (
        s.call(headers=[(b"x-sluice-priority", b"%d" % priority)])[0] for priority in (-1, 0, 0, 5)
    )
    assert {e.state for e in (low, first, second, high)} == {QUEUED}
    order = []
    for _ in range(4):
        s.clock.advance(1)
        connection.data_received(JSON_ANSWER)
        order += [e for e in (low, first, second, high) if e.state is SENT]
    connection.data_received(JSON_ANSWER)
    assert order == [high, first, second, low]
    assert [r.queue for r in s.records] == [0, 1, 2, 3, 4]
    assert s.relay.accounting.queue_wait.total == 10


async def test_a_full_queue_refuses_with_429(surround: Surround) -> None:
    s = surround(FULL, workers=1)
    s.sent()
    s.call()
    s.call()
    exchange, client = s.call()
    assert exchange.state is DONE
    assert client.status == 429
    assert error(client)["code"] == "queue_full"
    assert b"retry-after: 8\r\n" in client.written
    assert dict(s.relay.accounting.refusals) == {"queue_full": 1}


async def test_a_newcomer_does_not_overtake(surround: Surround) -> None:
    s = surround(FULL, workers=1)
    _, _, connection = s.sent()
    waiting, _ = s.call()
    s.worker(0).max_in_flight = 2  # a place that nobody has been told of
    newcomer, _ = s.call()
    assert (waiting.state, newcomer.state) == (QUEUED, QUEUED)
    s.sweep(0.2)
    assert waiting.state is ROUTED
    assert newcomer.state is QUEUED


async def test_waiting_has_an_end(surround: Surround) -> None:
    s = surround(replace(FULL, timeouts=Timeouts(queue=3)), workers=1)
    s.sent()
    _, client = s.call()
    s.sweep(2.9)
    assert not client.is_over
    s.sweep(0.2)
    assert client.status == 503
    assert error(client)["code"] == "queue_timeout"
    assert b"retry-after: 1\r\n" in client.written
    assert len(s.relay.waiting) == 0


async def test_a_waiting_client_that_leaves(surround: Surround) -> None:
    s = surround(FULL, workers=1)
    _, _, connection = s.sent()
    exchange, _ = s.call()
    exchange.client_gone()
    assert len(s.relay.waiting) == 0
    connection.data_received(JSON_ANSWER)
    assert len(s.router.placed) == 1
    assert s.records[0].end == "client_gone"
    assert s.records[0].worker == ""


async def test_a_worker_that_comes_back_is_offered_to_who_waits(surround: Surround) -> None:
    s = surround(FULL, workers=2)
    s.sent()
    s.worker(1).health = "unready"
    exchange, _ = s.call()
    assert exchange.state is QUEUED
    s.worker(1).health = "ready"
    s.sweep(0.2)
    assert exchange.state is ROUTED
    assert s.router.placed[-1].worker.id == "w1"


async def test_a_place_at_a_worker_that_left_the_fleet_is_none(surround: Surround) -> None:
    s = surround(FULL, workers=2)
    _, _, leaving = s.sent()
    s.call()  # fills w1
    waiting, _ = s.call()
    s.fleet.update([WorkerInfo("w1", "http://127.0.0.1:9001", model="m")])
    leaving.data_received(JSON_ANSWER)
    assert waiting.state is QUEUED


async def test_a_failed_call_does_not_queue(surround: Surround) -> None:
    """What failed elsewhere is told at once: the only place it could wait for has failed already."""
    s = surround(RelaySettings(admission=Admission(per_worker=1)))
    first, client = s.call()
    s.call()  # fills w1
    s.pool.openings[0].fail()
    assert client.status == 502
    assert first.state is DONE


# deadlines


async def test_connect_timeout_goes_elsewhere_and_then_is_told(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(connect=2)))
    _, client = s.call()
    s.sweep(2.1)
    assert s.pool.openings[0].cancelled
    assert dict(s.relay.accounting.retries) == {"timeout": 1}
    s.sweep(2.1)
    assert client.status == 504
    assert "did not accept a connection in 2 s" in str(error(client)["message"])
    assert s.records[0].end == "timeout_connect"


async def test_first_byte_timeout(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(first_byte=5)))
    _, client, connection = s.sent()
    s.sweep(5.1)
    assert client.status == 504
    assert error(client)["code"] == "worker_timeout"
    assert connection.transport.aborted
    assert s.records[0].end == "timeout_first_byte"


async def test_silence_inside_a_stream(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(silence=5), ping_seconds=0))
    _, client, connection = s.streaming()
    s.sweep(4)
    connection.data_received(chunked(EVENT))
    s.sweep(4)
    assert not client.is_over
    s.sweep(1.1)
    assert client.kept_alive is False
    assert connection.transport.aborted
    assert b"data: [DONE]" not in client.written
    assert payload(client).startswith(EVENT * 2 + b'data: {"error":')
    assert s.records[0].end == "timeout_silence"
    assert s.records[0].status == 200


async def test_silence_inside_a_document_cuts_the_connection(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(silence=5)))
    _, client, connection = s.sent()
    connection.data_received(JSON_ANSWER[:-5])
    s.sweep(5.1)
    assert client.aborted
    assert s.records[0].end == "timeout_silence"


async def test_no_limit_on_the_total_and_none_where_zero(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(0, 0, 0, 0, 0), ping_seconds=0))
    exchange, client = s.call()
    s.sweep(1e6)
    connection = s.pool.openings[0].succeed()
    s.sweep(1e6)
    connection.data_received(STREAM_HEAD + chunked(EVENT))
    s.sweep(1e6)
    exchange.client_paused()
    s.sweep(1e6)
    assert not client.is_over


async def test_limits_of_one_request(surround: Surround) -> None:
    s = surround()
    _, client, _ = s.sent(headers=[(b"x-sluice-timeout-first-byte", b"1")])
    s.sweep(1.1)
    assert client.status == 504


@pytest.mark.parametrize("header", [b"x-sluice-timeout-first-byte", b"x-sluice-timeout-connect"])
async def test_an_impatient_client_does_not_discredit_a_worker(surround: Surround, header: bytes) -> None:
    s = surround(workers=1)
    for _ in range(10):
        exchange, client = s.call(headers=[(header, b"0.01")])
        if header.endswith(b"first-byte") and exchange.state is ROUTED:
            s.pool.openings[-1].succeed()
        s.sweep(0.1)
        assert client.status == 504
    assert s.worker(0).breaker == "closed"


@pytest.mark.parametrize("limits", [Timeouts(first_byte=1), Timeouts(connect=1)])
async def test_the_operators_limits_count_against_a_worker(surround: Surround, limits: Timeouts) -> None:
    s = surround(RelaySettings(timeouts=limits), workers=1)
    for _ in range(3):
        s.call()
        if limits.first_byte == 1:
            s.pool.openings[-1].succeed()
        s.sweep(1.1)
    assert s.worker(0).breaker == "open"


async def test_a_broken_exchange_does_not_stop_the_sweep(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(first_byte=5)))
    _, broken, _ = s.sent()
    _, other, _ = s.sent()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    broken.answered = fail  # type: ignore[method-assign]
    s.sweep(5.1)
    assert other.status == 504
    assert broken.aborted
    s.assert_quiet()


# pings


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


# hedging


async def test_a_late_first_byte_asks_a_second_worker(surround: Surround) -> None:
    s = surround(HEDGED)
    hedging(s)
    exchange, client, slow = s.sent()
    s.sweep()
    s.sweep(0.05)
    assert exchange.hedge is None
    s.sweep(0.1)
    assert exchange.hedge is not None
    fast = s.pool.openings[1].succeed()
    fast.data_received(STREAM_HEAD + chunked(EVENT))
    assert slow.transport.aborted
    assert b"x-sluice-worker: w1\r\n" in client.written
    fast.data_received(chunked(DONE_EVENT) + LAST_CHUNK)
    assert payload(client) == EVENT + DONE_EVENT
    assert [p.outcome for p in s.router.placed] == ["aborted", "ok"]
    accounting = s.relay.accounting
    assert (accounting.hedges, accounting.hedges_won) == (1, 1)
    assert s.records[0].worker == "w1"


async def test_the_first_worker_may_still_win(surround: Surround) -> None:
    s = surround(HEDGED)
    hedging(s)
    _, client, slow = s.sent()
    s.sweep()
    s.sweep(0.2)
    hedge = s.pool.openings[1].succeed()
    slow.data_received(JSON_ANSWER)
    assert client.status == 200
    assert hedge.transport.aborted
    assert (s.relay.accounting.hedges, s.relay.accounting.hedges_won) == (1, 0)


async def test_a_hedge_that_is_still_connecting_is_called_off(surround: Surround) -> None:
    s = surround(HEDGED)
    hedging(s)
    _, _, slow = s.sent()
    s.sweep()
    s.sweep(0.2)
    slow.data_received(JSON_ANSWER)
    assert s.pool.openings[1].cancelled


@pytest.mark.parametrize("who", ["first", "hedge"])
@pytest.mark.parametrize("how", ["lost", "status", "refused"])
async def test_if_one_of_two_fails_the_other_goes_on(surround: Surround, who: str, how: str) -> None:
    s = surround(HEDGED, workers=3)
    hedging(s)
    exchange, client = s.call()
    s.clock.advance(0.3)
    if not (who == "first" and how == "refused"):
        s.pool.openings[0].succeed()
        s.sweep()
        s.sweep(0.2)
    else:
        exchange.hedge_now()
    assert exchange.hedge is not None
    if not (who == "hedge" and how == "refused"):
        s.pool.openings[1].succeed()
    failing = 0 if who == "first" else 1
    if how == "refused":
        s.pool.openings[failing].fail()
    elif how == "lost":
        s.pool.connections[failing].connection_lost(None)
    else:
        s.pool.connections[failing].data_received(status(503))
    assert len(s.router.placed) == 2, "no third attempt while one runs"
    assert s.router.placed[failing].outcome == "failed"
    assert s.router.placed[1 - failing].outcome is None
    survivor = next(c for c in s.pool.connections if c.worker is s.router.placed[1 - failing].worker)
    survivor.data_received(JSON_ANSWER)
    assert client.status == 200
    s.assert_quiet()


async def test_both_of_two_fail(surround: Surround) -> None:
    s = surround(HEDGED)
    hedging(s)
    _, client, first = s.sent()
    s.sweep()
    s.sweep(0.2)
    second = s.pool.openings[1].succeed()
    first.connection_lost(None)
    second.connection_lost(None)
    assert client.status == 502


async def test_hedges_need_a_second_worker_and_budget(surround: Surround) -> None:
    s = surround(HEDGED, workers=1)
    hedging(s)
    exchange, _, _ = s.sent()
    s.sweep()
    s.sweep(1)
    assert exchange.hedge is None
    poor = surround(replace(HEDGED, retries=Retries(budget=0, budget_floor=0)))
    hedging(poor)
    exchange, _, _ = poor.sent()
    poor.sweep()
    poor.sweep(1)
    assert exchange.hedge is None
    assert poor.relay.accounting.retries_denied >= 1
    assert len(poor.router.placed) == 1


async def test_a_client_that_leaves_takes_both_along(surround: Surround) -> None:
    s = surround(HEDGED)
    hedging(s)
    exchange, _, first = s.sent()
    s.sweep()
    s.sweep(0.2)
    second = s.pool.openings[1].succeed()
    exchange.client_gone()
    assert first.transport.aborted
    assert second.transport.aborted
    s.assert_quiet()


# the client


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


# ends that are none


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


# drain


async def test_drain_waits_for_running_answers(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.streaming()
    drain = s.relay.loop.create_task(s.relay.drain())
    await _next_turn(s)
    assert not drain.done()
    connection.data_received(chunked(DONE_EVENT) + LAST_CHUNK)
    await drain
    assert s.records[0].end == "ok"


async def test_drain_ends_the_rest_with_an_error(surround: Surround) -> None:
    s = surround(RelaySettings(drain_seconds=0.01, admission=Admission(per_worker=3)), workers=1)
    _, stream, _ = s.streaming()
    _, document, connection = s.sent()
    connection.data_received(JSON_ANSWER[:-5])
    _, early, _ = s.sent()
    _, queued = s.call()
    await s.relay.drain()
    assert payload(stream).startswith(EVENT + b'data: {"error":')
    assert document.aborted
    assert (early.status, queued.status) == (503, 503)
    assert error(early)["code"] == error(queued)["code"] == "shutting_down"
    assert {r.end for r in s.records} == {"drained"}


async def _next_turn(s: Surroundings) -> None:
    turn = s.relay.loop.create_future()
    s.relay.loop.call_soon(turn.set_result, None)
    await turn


def test_the_first_state() -> None:
    assert min(State) is ADMITTED
