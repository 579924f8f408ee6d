"""A worker fails before anything was shown: another one is tried, within limits."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.relay import deadlines
from gateway.relay.framing import LAST_CHUNK
from gateway.relay.settings import RelaySettings, Retries
from gateway.relay.states import ROUTED, SENT

from .answers import JSON_ANSWER, error, status
from .conftest import DONE_EVENT, EVENT, STREAM_HEAD, Surround, chunked


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
    s.relay.draining = True
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
