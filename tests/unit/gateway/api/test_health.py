from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.api.context import GatewayContext


async def test_alive_and_loading_while_no_worker_was_probed(visit: Any) -> None:
    async with visit() as client:
        answer = await client.get("/health")
        assert answer.status_code == 200
        body = answer.json()
        assert body["status"] == "loading"
        assert [worker["id"] for worker in body["workers"]] == ["w0", "w1"]
        assert (await client.get("/live")).status_code == 200
        assert [(await client.head(path)).status_code for path in ("/health", "/live", "/ready")] == [
            200,
            200,
            503,
        ]
        ready = await client.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["status"] == "not_ready"


async def test_ok_degraded_draining(visit: Any, context: GatewayContext, become_ready: Any) -> None:
    async with visit() as client:

        async def seen() -> tuple[str, int]:
            health, ready = await client.get("/health"), await client.get("/ready")
            return health.json()["status"], ready.status_code

        become_ready("w0")
        assert await seen() == ("degraded", 200)
        become_ready("w1")
        assert await seen() == ("ok", 200)
        for worker in context.membership.fleet:
            worker.health = "unready"
        assert await seen() == ("degraded", 503)
        become_ready("w0")
        context.draining = True
        assert await seen() == ("draining", 503)
        assert (await client.get("/ready")).json()["reason"] == "the gateway is shutting down"


@pytest.mark.parametrize(
    ("supervisor", "health", "breaker", "state"),
    [
        ("ready", "ready", "closed", "ready"),
        ("ready", "ready", "half_open", "ready"),
        ("ready", "ready", "open", "failing"),
        ("starting", "unready", "closed", "loading"),
        ("backoff", "unready", "closed", "restarting"),
        ("failed", "unready", "closed", "failed"),
        ("stopped", "unready", "closed", "stopped"),
        ("ready", "unready", "open", "unreachable"),
        ("ready", "unknown", "closed", "starting"),
        ("ready", "draining", "closed", "draining"),
        ("starting", "ready", "closed", "ready"),
    ],
)
async def test_a_workers_state_in_one_word(
    visit: Any, context: GatewayContext, supervisor: Any, health: Any, breaker: Any, state: str
) -> None:
    worker = context.membership.fleet.workers["w0"]
    worker.health, worker.breaker = health, breaker
    context.membership.infos["w0"] = replace(context.membership.infos["w0"], state=supervisor)
    async with visit() as client:
        assert (await client.get("/health")).json()["workers"][0]["state"] == state


async def test_the_reason_names_every_worker(visit: Any, context: GatewayContext, become_ready: Any) -> None:
    become_ready("w1")
    first, second = context.membership.fleet
    first.message = "loading the model (process is up)"
    second.breaker = "open"
    async with visit() as client:
        reason = (await client.get("/ready")).json()["reason"]
    assert (
        reason
        == "w0: loading the model (process is up); w1: requests to it keep failing; it is tried again soon"
    )


async def test_no_workers_at_all(visit: Any, context: GatewayContext) -> None:
    context.membership.fleet.update([])
    async with visit() as client:
        assert (await client.get("/health")).json() == {
            "status": "degraded",
            "version": context.version,
            "workers": [],
        }
        assert (await client.get("/ready")).json()["reason"] == "the gateway has no workers"


async def test_where_keys_are_asked_for_strangers_see_no_addresses(
    visit: Any, secrets: dict[str, str]
) -> None:
    async with visit() as client:
        answer = await client.get("/health")
        assert answer.status_code == 200
        assert "9000" not in answer.text
    async with visit(secrets["user"]) as client:
        assert (await client.get("/health")).json()["workers"][0]["url"] == "http://127.0.0.1:9000"
