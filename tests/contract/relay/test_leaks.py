"""After a storm of aborts, timeouts, worker deaths and retries over real sockets, every counter is zero."""

from __future__ import annotations

import asyncio
import random

import pytest

from engine_adapter.fake import FakeEngine, Fault, Timing
from gateway.relay.settings import Admission, HealthChecks, Hedging, RelaySettings, Retries, Timeouts

from .conftest import CHAT, Answer, Gateway, StartEngine, StartGateway, post_bytes, until

SETTINGS = RelaySettings(
    timeouts=Timeouts(connect=0.3, queue=0.5, first_byte=0.4, silence=0.4, stalled_client=0.5),
    admission=Admission(per_worker=4, queue=10),
    retries=Retries(budget=0.5),
    hedging=Hedging(enabled=True, min_seconds=0.1),
    health=HealthChecks(breaker_open_seconds=0.2),
    ping_seconds=0.2,
)
FAULTS = (
    Fault("cut", point="before-headers", probability=0.06),
    Fault("cut", point="mid-headers", reset=True, probability=0.06),
    Fault("cut", point="event", after_events=3, reset=True, probability=0.1),
    Fault("cut", point="mid-body", probability=0.1),
    Fault("hang", probability=0.06),
    Fault("hang", point="event", after_events=2, probability=0.06),
    Fault("truncate", after_events=4, probability=0.06),
    Fault("status", status=503, probability=0.06),
    Fault("framing", framing="bad-chunk", probability=0.06),
    Fault("slow", first_s=0.2, probability=0.06),
)


async def one_client(gateway: Gateway, dice: random.Random) -> str:
    """Send a request and either wait for its answer or leave at some moment; how it went."""
    stream = dice.random() < 0.6
    client = await gateway.connect()
    client.send(post_bytes(CHAT | {"stream": stream}) * dice.choice((1, 1, 1, 3)))
    if dice.random() < 0.4:
        await asyncio.sleep(dice.random() * 0.2)
        if dice.random() < 0.5:
            client.reset()
        else:
            client.writer.close()
        return "left"
    try:
        answer: Answer = await client.answer()
    except asyncio.IncompleteReadError:
        # A document that breaks off can be told in no other way.
        return "cut"
    finally:
        client.writer.close()
    if answer.status == 200 and stream:
        ended = answer.body.endswith(b"data: [DONE]\n\n")
        assert ended or b'data: {"error":' in answer.body, answer.body[-200:]
        return "ok" if ended else "error event"
    return str(answer.status)


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_counted_after_a_storm(
    start_gateway: StartGateway, start_engine: StartEngine, seed: int
) -> None:
    dice = random.Random(seed)
    timing = Timing(prefill_base_s=0.01, itl_base_s=0.002)
    engines: list[FakeEngine] = [
        await start_engine(timing=timing, faults=FAULTS, answer_tokens=20, seed=n) for n in range(3)
    ]
    gateway = await start_gateway(*engines, settings=SETTINGS)

    async def deaths() -> None:
        while True:
            await asyncio.sleep(0.15)
            engine = dice.choice(engines)
            if dice.random() < 0.5:
                engine.drop_connections()
            else:
                await engine.restart()

    dying = asyncio.get_running_loop().create_task(deaths())
    results: list[str] = []

    async def clients(number: int) -> None:
        mine = random.Random(seed * 100 + number)
        results.extend([await one_client(gateway, mine) for _ in range(12)])

    await asyncio.gather(*[clients(n) for n in range(12)])
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await gateway.quiet()
    assert len(results) == 144, "every request came to an end that its client saw"
    assert len(set(results)) >= 4, results
    assert "ok" in results
    assert sum(gateway.accounting.retries.values()) > 0
    ends = [sum(series.ends.values()) for series in gateway.accounting.series.values()]
    assert sum(ends) <= len(gateway.records)
    assert all(record.end for record in gateway.records)
    await until(lambda: all(e.stats.running == e.stats.waiting == 0 for e in engines))
