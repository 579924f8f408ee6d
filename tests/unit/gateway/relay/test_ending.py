"""Ended requests are counted late, but before anybody looks, all of them, and never many at a time."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.relay.accounting import AccessRecord, Accounting
from gateway.relay.ending import BATCH
from gateway.relay.exchange import TAIL_BYTES
from gateway.telemetry.snapshot import Sources, take

from .answers import JSON_ANSWER, JSON_HEAD
from .conftest import Surround, Surroundings


def answered(s: Surroundings, answer: bytes = JSON_ANSWER) -> Any:
    """A request that has got `answer`; its exchange."""
    exchange, client = s.call()
    connection = s.pool.connections[0] if s.pool.connections else s.pool.openings[-1].succeed()
    connection.data_received(answer)
    assert client.answers == 1
    return exchange


async def test_a_full_batch_is_settled_by_itself(surround: Surround) -> None:
    s = surround()
    for _ in range(BATCH - 1):
        answered(s)
    assert not s.recorded
    answered(s)
    assert len(s.recorded) == BATCH
    assert all(placed.tokens == (7, 0, 5) for placed in s.router.placed)
    series = s.relay.accounting.of("w0", "m")
    assert (series.ends["ok"], series.statuses[200], series.prompt_tokens) == (BATCH, BATCH, 7 * BATCH)
    assert sum(series.duration.counts) == sum(series.ttft.counts) == BATCH


async def test_the_sweep_settles_what_is_left(surround: Surround) -> None:
    s = surround()
    answered(s)
    s.sweep()
    assert len(s.recorded) == 1


async def test_nothing_is_missing_where_the_numbers_are_read(surround: Surround) -> None:
    s = surround()
    for _ in range(3):
        answered(s)
    (series,) = take(Sources(s.relay.accounting, s.fleet)).series
    assert (series.ends, series.output_tokens) == ({"ok": 3}, 15)


async def test_nothing_is_missing_at_the_end_of_the_process(surround: Surround) -> None:
    s = surround()
    answered(s)
    s.call()
    await s.relay.stop()
    assert [record.end for record in s.recorded] == ["ok", "drained"]


async def test_places_are_free_before_anything_is_counted(surround: Surround) -> None:
    s = surround()
    answered(s)
    assert s.relay.accounting.active == s.worker(0).in_flight == 0
    assert s.router.placed[0].outcome == "ok"
    assert s.router.placed[0].tokens is None
    assert len(s.records) == 1
    assert s.router.placed[0].tokens == (7, 0, 5)


async def test_what_waits_is_small(surround: Surround) -> None:
    s = surround()
    size = 4 * TAIL_BYTES
    exchange = answered(s, JSON_HEAD % size + b" " * size)
    assert len(exchange.call.body) + len(exchange.call.route.body) == 0
    assert len(exchange._tail) == TAIL_BYTES
    assert s.records[0].response_bytes == size
    assert exchange.attempt is exchange.winner is None, "nothing holds on to anything in a circle"


async def test_one_that_cannot_be_read_costs_the_others_nothing(
    surround: Surround, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = surround()
    for _ in range(3):
        answered(s)
    told: list[AccessRecord] = []

    def refuse_the_first(record: AccessRecord) -> None:
        told.append(record)
        if len(told) == 1:
            raise RuntimeError("no room for a record")

    monkeypatch.setattr(s.relay.endings, "_record", refuse_the_first)
    s.relay.accounting.settle()
    assert len(told) == 3
    assert s.relay.accounting.of("w0", "m").ends["ok"] == 3


def test_numbers_without_a_relay_are_always_up_to_date() -> None:
    accounting = Accounting()
    accounting.settle()
    assert (accounting.active, accounting.series) == (0, {})
