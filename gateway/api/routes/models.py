"""`/v1/models`: what can be asked for, over all workers, in OpenAI's form."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from gateway.api.access import key_check
from gateway.api.context import GatewayContext
from gateway.errors import NotFound


def routes(context: GatewayContext) -> APIRouter:
    """`/v1/models`: what ready workers serve, aliases included, and the key may use."""
    router = APIRouter(prefix="/v1/models", tags=["models"])
    check = key_check(context)

    @router.get("", summary="List models")
    async def list_models(request: Request) -> Response:
        """Models that a worker serves now, and aliases of these, as far as the key may use them."""
        key = await check(request)
        data = [model for model in served(context) if key is None or key.may_use(model["id"])]
        return Response(orjson.dumps({"object": "list", "data": data}), media_type="application/json")

    @router.get("/{model:path}", summary="Retrieve a model")
    async def retrieve_model(model: str, request: Request) -> Response:
        key = await check(request)
        for entry in served(context):
            if entry["id"] == model and (key is None or key.may_use(model)):
                return Response(orjson.dumps(entry), media_type="application/json")
        raise NotFound(
            f"The model '{model}' does not exist or is not ready; GET /v1/models lists what is served.",
            code="model_not_found",
            param="model",
        )

    return router


def served(context: GatewayContext) -> list[dict[str, Any]]:
    """Entries of the models that can be asked for now, aliases after the names they stand for."""
    models: dict[str, dict[str, Any]] = {}
    for worker in context.membership.fleet:
        if worker.health == "ready":
            for name in worker.models:
                models.setdefault(name, _entry(context, name, name, worker.max_model_len))
    for alias, name in context.relay.aliases.items():
        if name in models:
            models[alias] = _entry(context, alias, name, models[name]["max_model_len"])
    return list(models.values())


def _entry(context: GatewayContext, model: str, root: str, max_model_len: int | None) -> dict[str, Any]:
    return {
        "id": model,
        "object": "model",
        "created": context.started,
        "owned_by": "sluice",
        "root": root,
        "parent": None,
        "max_model_len": max_model_len,
    }
