from __future__ import annotations

from typing import Any

from gateway.api.context import GatewayContext
from gateway.relay.settings import RelaySettings


async def names(client: Any) -> list[str]:
    answer = await client.get("/v1/models")
    assert answer.status_code == 200
    assert answer.json()["object"] == "list"
    return [model["id"] for model in answer.json()["data"]]


async def test_the_union_over_ready_workers(visit: Any, context: GatewayContext, become_ready: Any) -> None:
    async with visit() as client:
        assert await names(client) == []
        become_ready("w0", "small", "small-lora")
        become_ready("w1", "small", "large")
        assert await names(client) == ["small", "small-lora", "large"]
        context.membership.fleet.workers["w1"].health = "draining"
        assert await names(client) == ["small", "small-lora"]


async def test_aliases_come_and_go_with_what_they_stand_for(
    visit: Any, context: GatewayContext, become_ready: Any
) -> None:
    context.relay = RelaySettings(aliases={"gpt-4o-mini": "small", "gone": "huge"})
    become_ready("w0", "org/small", "small")
    async with visit() as client:
        assert await names(client) == ["org/small", "small", "gpt-4o-mini"]
        alias = (await client.get("/v1/models/gpt-4o-mini")).json()
        assert alias == {
            "id": "gpt-4o-mini",
            "object": "model",
            "created": context.started,
            "owned_by": "sluice",
            "root": "small",
            "parent": None,
            "max_model_len": 512,
        }
        assert (await client.get("/v1/models/org/small")).json()["id"] == "org/small"


async def test_an_unknown_model_is_a_404_in_openais_form(visit: Any) -> None:
    async with visit() as client:
        answer = await client.get("/v1/models/huge")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (
        "model_not_found",
        "invalid_request_error",
        "model",
    )
    assert "'huge'" in error["message"]


async def test_a_key_is_needed_and_sees_its_models_only(
    visit: Any, secrets: dict[str, str], become_ready: Any
) -> None:
    become_ready("w0", "small", "large")
    async with visit() as client:
        missing = await client.get("/v1/models")
        assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_api_key")
        assert missing.headers["www-authenticate"] == "Bearer"
        wrong = await client.get("/v1/models", headers={"x-api-key": "sk-sluice-wrong"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
        anthropic = await client.get("/v1/models", headers={"x-api-key": secrets["user"]})
        assert len(anthropic.json()["data"]) == 2
    async with visit(secrets["small-only"]) as client:
        assert await names(client) == ["small"]
        assert (await client.get("/v1/models/large")).status_code == 404
