"""A second worker is asked when the first is late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.relay.framing import LAST_CHUNK
from gateway.relay.settings import Hedging, RelaySettings, Retries

from .answers import JSON_ANSWER, payload, status
from .conftest import DONE_EVENT, EVENT, STREAM_HEAD, Surround, Surroundings, chunked

HEDGED = RelaySettings(hedging=Hedging(enabled=True, min_seconds=0.1))


def hedging(s: Surroundings) -> None:
    """Let it be known that first bytes usually come within 0.1 s."""
    assert s.relay.hedge_delay is not None
    for _ in range(20):
        s.relay.hedge_delay.observe(0.01)


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
