"""Second attempts: before the first byte only, at another worker, within a budget that all requests share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine_adapter.fake import FakeEngine, Fault, Timing
from gateway.relay.settings import HealthChecks, Hedging, RelaySettings, Retries

from .conftest import (
    CHAT,
    EVENT,
    JSON_OK,
    SSE_HEAD,
    Gateway,
    Scripts,
    StartEngine,
    StartGateway,
    chunked,
    post_bytes,
    until,
)

STREAM = CHAT | {"stream": True}
PATIENT = HealthChecks(breaker_failures=10_000)


async def many(gateway: Gateway, count: int, body: dict[str, Any] = CHAT) -> list[int]:
    answers = await asyncio.gather(*[gateway.ask(post_bytes(body)) for _ in range(count)])
    return [answer.status for answer in answers]


async def stopped(start_engine: StartEngine) -> FakeEngine:
    """A worker whose port refuses connections."""
    engine = await start_engine()
    await engine.stop()
    return engine


async def test_a_dead_worker_costs_one_failed_attempt(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    dead, sound = await stopped(start_engine), await start_engine()
    gateway = await start_gateway(dead, sound, policy="round_robin")
    for _ in range(12):
        assert (await gateway.ask(post_bytes())).status == 200
    assert gateway.accounting.retries == {"connect": 1}
    assert gateway.worker(0).breaker == "open"
    assert sum(r.attempts for r in gateway.records) == 13
    await dead.start()


async def test_after_a_pause_one_request_tries_the_worker_again(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engine = await start_engine(timing=Timing(prefill_base_s=0.05))
    await engine.stop()
    settings = RelaySettings(health=HealthChecks(breaker_open_seconds=0.1))
    gateway = await start_gateway(engine, settings=settings)
    assert (await gateway.ask(post_bytes())).status == 502
    refused = await gateway.ask(post_bytes())
    assert (refused.status, refused.error["code"]) == (503, "no_worker")
    assert "retry-after" in refused.headers
    await engine.start()
    await until(lambda: gateway.worker().breaker == "half_open")
    assert await many(gateway, 5) == [200] * 5, "one trial; the others wait for its verdict"
    assert gateway.accounting.queue_wait.total > 0
    assert gateway.worker().breaker == "closed"
    assert await many(gateway, 5) == [200] * 5


FAULTS = {
    "cut before the headers": Fault("cut", point="before-headers"),
    "reset before the headers": Fault("cut", point="before-headers", reset=True),
    "cut inside the headers": Fault("cut", point="mid-headers"),
    "cut after the headers": Fault("cut", point="after-headers"),
    "status 503": Fault("status", status=503),
    "both framings": Fault("framing", framing="both"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_breaks_before_the_first_byte_is_done_elsewhere(
    start_gateway: StartGateway, start_engine: StartEngine, fault: Fault, stream: bool
) -> None:
    broken, sound = await start_engine(faults=(fault,)), await start_engine()
    gateway = await start_gateway(broken, sound, policy="round_robin", settings=RelaySettings(health=PATIENT))
    for _ in range(4):
        answer = await gateway.ask(post_bytes(CHAT | {"stream": stream}))
        assert answer.status == 200
        assert answer.headers["x-sluice-worker"] == "w1"
    assert broken.stats.faults_committed >= 2
    assert sum(gateway.accounting.retries.values()) >= 2


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_is_repeated_once_a_byte_was_shown(
    start_gateway: StartGateway, start_engine: StartEngine, stream: bool
) -> None:
    point = "event" if stream else "mid-body"
    broken = await start_engine(faults=(Fault("cut", point=point),))  # type: ignore[arg-type]
    gateway = await start_gateway(broken, await start_engine(faults=(Fault("cut", point=point),)))  # type: ignore[arg-type]
    client = await gateway.connect()
    client.send(post_bytes(CHAT | {"stream": stream}))
    received = await client.rest()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"[DONE]" not in received
    await gateway.quiet()
    assert gateway.records[0].attempts == 1
    assert not gateway.accounting.retries


async def test_the_budget_bounds_what_a_sick_fleet_costs(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    fault = Fault("cut", point="before-headers", reset=True)
    engines = [await start_engine(faults=(fault,)) for _ in range(3)]
    settings = RelaySettings(retries=Retries(budget=0.2, budget_floor=2), health=PATIENT)
    gateway = await start_gateway(*engines, settings=settings)
    assert set(await many(gateway, 50)) == {502}
    attempts = sum(engine.stats.faults_committed for engine in engines)
    assert attempts == 50 + sum(gateway.accounting.retries.values())
    assert sum(gateway.accounting.retries.values()) <= 10
    assert gateway.accounting.retries_denied > 0


async def test_a_kept_connection_that_the_worker_closed_is_replaced_silently(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    async def closes_as_the_second_request_arrives(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await worker.request(reader)
        writer.write(JSON_OK)
        await reader.readexactly(1)

    worker, url = await scripts.run(closes_as_the_second_request_arrives)
    settings = RelaySettings(retries=Retries(budget=0, budget_floor=0))
    gateway = await start_gateway(url, settings=settings)
    for _ in range(5):
        assert (await gateway.ask(post_bytes())).status == 200
    assert worker.connections == 5
    assert all(record.attempts == 1 for record in gateway.records)
    assert gateway.worker().breaker == "closed"


async def test_a_restarted_worker_is_reached_over_new_connections(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engine = await start_engine()
    gateway = await start_gateway(engine)
    for _ in range(3):
        assert await many(gateway, 4) == [200] * 4
        await engine.restart()
    assert [r.end for r in gateway.records] == ["ok"] * 12


async def test_no_worker_at_all(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    answer = await gateway.ask(post_bytes())
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


# hedging

HEDGED = RelaySettings(
    hedging=Hedging(enabled=True, min_seconds=0.05),
    retries=Retries(budget=0.5, budget_floor=5),
    health=PATIENT,
)


async def warmed_up(gateway: Gateway) -> None:
    assert gateway.relay.hedge_delay is not None
    for _ in range(20):
        gateway.relay.hedge_delay.observe(0.01)
    await until(lambda: gateway.relay.hedge_delay.seconds == 0.05)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_first_to_answer_wins_and_the_other_is_aborted(
    start_gateway: StartGateway, start_engine: StartEngine, stream: bool
) -> None:
    slow, fast = await start_engine(faults=(Fault("hang"),)), await start_engine()
    gateway = await start_gateway(slow, fast, settings=HEDGED, policy="round_robin")
    await warmed_up(gateway)
    for _ in range(4):
        answer = await gateway.ask(post_bytes(CHAT | {"stream": stream}))
        assert answer.status == 200
        assert answer.headers["x-sluice-worker"] == "w1"
    await gateway.quiet()
    hedges = gateway.accounting.hedges
    assert hedges == gateway.accounting.hedges_won >= 1
    await slow.stats.until(lambda stats: stats.aborted_total == hedges)


async def test_hedges_share_the_budget_of_retries(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engines = [await start_engine(timing=Timing(prefill_base_s=0.5, prefill_slots=0)) for _ in range(2)]
    settings = RelaySettings(
        hedging=Hedging(enabled=True, min_seconds=0.05), retries=Retries(budget=0, budget_floor=3)
    )
    gateway = await start_gateway(*engines, settings=settings)
    await warmed_up(gateway)
    assert await many(gateway, 10) == [200] * 10
    assert gateway.accounting.hedges == 3
    assert gateway.accounting.retries_denied > 0
    assert sum(engine.stats.inference_requests for engine in engines) == 13


async def test_a_hedge_is_not_asked_for_after_the_first_byte(
    start_gateway: StartGateway, scripts: Scripts, start_engine: StartEngine
) -> None:
    _, url = await scripts.answering(
        SSE_HEAD + chunked(EVENT), chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n", pause=0.4
    )
    gateway = await start_gateway(url, await start_engine(), settings=HEDGED, policy="round_robin")
    await warmed_up(gateway)
    for _ in range(2):
        assert (await gateway.ask(post_bytes(STREAM))).status == 200
    assert gateway.accounting.hedges == 0
