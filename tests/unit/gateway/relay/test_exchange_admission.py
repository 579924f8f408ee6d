"""Who is let in, who waits and for how long, who is refused."""

from __future__ import annotations

from dataclasses import replace

from engine_adapter.api import WorkerInfo
from gateway.relay.settings import Admission, RelaySettings, Timeouts
from gateway.relay.states import DONE, QUEUED, ROUTED, SENT

from .answers import JSON_ANSWER, error
from .conftest import Surround

FULL = RelaySettings(admission=Admission(per_worker=1, queue=2))


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
