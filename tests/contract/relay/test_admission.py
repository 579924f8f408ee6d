"""Bounded concurrency per worker, and in front of it a bounded queue that knows priorities."""

from __future__ import annotations

import asyncio

from engine_adapter.fake import Timing
from gateway.access.keys import Key
from gateway.relay.settings import Admission, RelaySettings

from .conftest import CHAT, OneKey, StartEngine, StartGateway, post_bytes, until

SLOW = Timing(prefill_base_s=0.05, prefill_slots=0)


def admitting(per_worker: int, queue: int) -> RelaySettings:
    return RelaySettings(admission=Admission(per_worker=per_worker, queue=queue))


async def test_never_more_at_a_worker_than_allowed_and_all_are_served(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engines = [await start_engine(timing=Timing(prefill_base_s=0.005, prefill_slots=0)) for _ in range(2)]
    gateway = await start_gateway(*engines, settings=admitting(3, 100))
    seen = 0

    async def watch() -> None:
        nonlocal seen
        while True:
            seen = max(seen, *(e.stats.running + e.stats.waiting for e in engines))
            assert all(worker.in_flight <= 3 for worker in gateway.fleet)
            await asyncio.sleep(0)

    watching = asyncio.get_running_loop().create_task(watch())
    answers = await asyncio.gather(*[gateway.ask(post_bytes()) for _ in range(60)])
    watching.cancel()
    assert {answer.status for answer in answers} == {200}
    assert seen == 3


async def test_over_the_queue_is_429_with_retry_after_and_the_connection_lives(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engine = await start_engine(timing=Timing(prefill_base_s=60))
    gateway = await start_gateway(engine, settings=admitting(1, 1))
    for n in range(2):
        (await gateway.connect()).send(post_bytes())
        await until(lambda n=n: gateway.accounting.active == n + 1)
    client = await gateway.connect()
    for _ in range(2):
        client.send(post_bytes())
        answer = await client.answer()
        assert (answer.status, answer.error["code"], answer.error["type"]) == (
            429,
            "queue_full",
            "rate_limit_error",
        )
        assert int(answer.headers["retry-after"]) >= 1
    assert gateway.accounting.refusals == {"queue_full": 2}


async def test_the_urgent_go_first_and_equals_in_order(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engine = await start_engine(timing=SLOW, record_requests=10)
    gateway = await start_gateway(engine, settings=admitting(1, 10))
    asked = []
    for number, priority in enumerate((0, -1, 0, 5, 0)):
        request = post_bytes(x_sluice_priority=str(priority), x_request_id=str(number))
        asked.append(asyncio.ensure_future(gateway.ask(request)))
        await until(lambda n=number: gateway.accounting.active == n + 1)
    for answer in asked:
        assert (await answer).status == 200
    assert [request.header("x-request-id") for request in engine.requests] == ["0", "3", "2", "4", "1"]
    waited = {record.request_id: record.queue for record in gateway.records}
    assert waited["0"] == 0 < waited["3"] < waited["2"] < waited["4"] < waited["1"]
    answer = asked[1].result()
    assert float(answer.headers["server-timing"].split("queue;dur=")[1].split(",")[0]) > 100


async def test_a_key_limits_what_a_client_may_claim(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    class TwoKeys(OneKey):
        def check(self, authorization: bytes | None, x_api_key: bytes | None = None) -> Key | None:
            most = {b"Bearer low": 0, b"Bearer high": 9}.get(authorization or b"")
            return None if most is None else Key(id="k", name="k", hash="", max_priority=most)

    engine = await start_engine(timing=SLOW, record_requests=10)
    gateway = await start_gateway(engine, settings=admitting(1, 10), keys=TwoKeys())
    asked = []
    for number, key in enumerate(("low", "low", "high")):
        request = post_bytes(x_sluice_priority="9", x_request_id=str(number), authorization=f"Bearer {key}")
        asked.append(asyncio.ensure_future(gateway.ask(request)))
        await until(lambda n=number: gateway.accounting.active == n + 1)
    await asyncio.gather(*asked)
    assert [request.header("x-request-id") for request in engine.requests] == ["0", "2", "1"]
    assert engine.requests[0].header("authorization") is None


async def test_a_drained_worker_gets_nothing_new_and_loses_nothing(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engines = [await start_engine(timing=SLOW) for _ in range(2)]
    gateway = await start_gateway(*engines, policy="round_robin")
    running = [asyncio.ensure_future(gateway.ask(post_bytes())) for _ in range(4)]
    await until(lambda: all(engine.stats.inference_requests == 2 for engine in engines))
    gateway.worker(0).health = "draining"
    later = [asyncio.ensure_future(gateway.ask(post_bytes())) for _ in range(4)]
    assert [(await answer).status for answer in running + later] == [200] * 8
    assert [engine.stats.inference_requests for engine in engines] == [2, 6]
    gateway.worker(0).health = "ready"
    assert {(await gateway.ask(post_bytes())).headers["x-sluice-worker"] for _ in range(2)} == {"w0", "w1"}


async def test_who_waits_is_served_by_a_worker_that_becomes_ready(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    busy, fresh = await start_engine(timing=Timing(prefill_base_s=60)), await start_engine()
    gateway = await start_gateway(busy, fresh, settings=admitting(1, 10))
    gateway.worker(1).health = "unready"
    (await gateway.connect()).send(post_bytes())
    await until(lambda: gateway.worker(0).in_flight == 1)
    waiting = asyncio.ensure_future(gateway.ask(post_bytes(CHAT | {"stream": True})))
    await until(lambda: len(gateway.relay.waiting) == 1)
    gateway.worker(1).health = "ready"
    assert (await waiting).headers["x-sluice-worker"] == "w1"
