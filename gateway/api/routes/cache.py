"""`/admin/cache`: what the KV layers of all workers hold, and what an operator may do with it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cache.control import CommandError, read_command
from engine_adapter.cache_salt import known_as
from gateway.api.context import GatewayContext
from gateway.api.kv_layer import Answer, KvLayer
from gateway.errors import InvalidRequest, TooLarge

VERBS = ("lookup", "prefetch", "pin", "unpin", "clear", "move", "compress")
_MOST_BYTES = 8 << 20
_OWN = ("memory", "packed")
"""Tiers that every worker has for itself."""


class Order(BaseModel):
    """A command to the KV layers. Fields besides these are the verb's own."""

    model_config = ConfigDict(extra="allow")

    worker: str | None = Field(default=None, description="Only this worker; default: every one.")
    select: dict[str, Any] | None = Field(
        default=None,
        description="Which chunks: `tokens`, `keys` or `everything`, and `tenant`, `quality`, `adapter`.",
        examples=[{"everything": True, "tenant": "acme"}],
    )
    prompt: str | None = Field(default=None, description="Instead of `select.tokens`: text to tokenize.")
    messages: list[dict[str, Any]] | None = Field(
        default=None, description="Instead of `select.tokens`: a conversation, as for chat completions."
    )


def routes(context: GatewayContext) -> APIRouter:
    """`/admin/cache` and a POST endpoint per verb."""
    router = APIRouter(prefix="/admin/cache", tags=["admin"])
    layer = KvLayer(context)

    @router.get("", summary="Tiers, fill and hits of every worker's KV layer")
    async def overview(worker: str | None = None) -> dict[str, Any]:
        """`tiers` adds the workers up; a tier that all share (`valkey`, `s3`, a shared directory) is the
        same one seen by each, so its fill is their largest. `tenants` and `namespaces` say what each has in
        bytes by tier, where the tier counts them (`used`), and may have (`quotas`)."""
        workers = await layer.ask_all("/stats", worker)
        found = workers.values()
        return {
            "workers": workers,
            "tiers": _added_up(found),
            "tenants": _shares(found, "tenants"),
            "namespaces": _shares(found, "namespaces"),
        }

    @router.get("/chunks", summary="Known chunks")
    async def chunks(
        limit: Annotated[int, Query(ge=1, le=100_000)] = 100,
        worker: str | None = None,
        tenant: str | None = None,
        adapter: str = "",
    ) -> dict[str, Any]:
        """Those in memory first."""
        query = f"?limit={limit}&adapter={quote(adapter)}"
        query += f"&tenant={quote(known_as(tenant))}" if tenant is not None else ""
        return {"workers": await layer.ask_all(f"/chunks{query}", worker)}

    @router.get("/health", summary="Which tiers answer")
    async def health(worker: str | None = None) -> dict[str, Any]:
        return {"workers": await layer.ask_all("/health", worker)}

    async def carry_out(verb: str, request: Request) -> dict[str, Any]:
        body = await request.body()
        if len(body) > _MOST_BYTES:
            raise TooLarge(f"A command has at most {_MOST_BYTES} bytes.")
        order = _read(body)
        worker = order.worker
        fields = dict(order.model_extra or {})
        fields["select"] = select = dict(order.select or {})
        if isinstance(tenant := select.get("tenant"), str):
            select["tenant"] = known_as(tenant)
        text = {"prompt": order.prompt} if order.prompt is not None else {"messages": order.messages}
        if order.prompt is not None or order.messages is not None:
            workers = layer.workers(worker)
            if not workers:
                raise InvalidRequest("No worker has a KV layer that can be asked.")
            select["tokens"] = await layer.tokenize(workers[0], text)
        try:
            command = read_command(orjson.dumps({**fields, "verb": verb}))
        except CommandError as error:
            hint = "" if select.keys() & {"tokens", "keys", "everything"} else _HOW_TO_CHOOSE
            raise InvalidRequest(f"{error}.{hint}") from error
        answers = await layer.command_all(command, worker)
        return {"verb": verb, "tokens": len(command.select.tokens), "workers": answers}

    def add(verb: str) -> None:
        @router.post(
            f"/{verb}",
            summary=_SUMMARIES[verb],
            openapi_extra={"requestBody": {"content": {"application/json": {"schema": _SCHEMA}}}},
            name=f"cache_{verb}",
        )
        async def endpoint(request: Request) -> dict[str, Any]:
            return await carry_out(verb, request)

    for name in VERBS:
        add(name)
    return router


_SUMMARIES = {
    "lookup": "How much of a prompt is kept, and where",
    "prefetch": "Bring a prompt's chunks into memory",
    "pin": "Keep chunks from eviction until a time",
    "unpin": "End an owner's pins",
    "clear": "Forget chunks in every tier",
    "move": "Move or copy chunks between tiers",
    "compress": "Write a tier's chunks again with another lossless codec; `raw` decompresses",
}
_HOW_TO_CHOOSE = ' Or give a "prompt" or "messages"; the worker is asked for the tokens.'
_SCHEMA = Order.model_json_schema()


def _read(body: bytes) -> Order:
    try:
        return Order.model_validate_json(body or b"{}")
    except ValueError as error:
        raise InvalidRequest(f"The body is no command: {error}") from error


def _added_up(workers: Any) -> dict[str, dict[str, Any]]:
    """Per tier: sums over the workers of what each did, the largest of what they all see."""
    total: dict[str, dict[str, Any]] = {}
    for stats in workers:
        tiers: Answer = stats.get("tiers") or {}
        for name, tier in tiers.items():
            counters = tier["counters"]
            entry = total.setdefault(
                name,
                {"chunks": 0, "used_bytes": 0, "capacity_bytes": None, "available": True}
                | dict.fromkeys(("hits", "loads", "saves", "evictions", "dropped", "faults"), 0),
            )
            own = name in _OWN
            for field in ("chunks", "used_bytes"):
                entry[field] = entry[field] + tier[field] if own else max(entry[field], tier[field])
            if (capacity := tier["capacity_bytes"]) is not None:
                known = entry["capacity_bytes"] or 0
                entry["capacity_bytes"] = known + capacity if own else max(known, capacity)
            entry["available"] = entry["available"] and tier["available"]
            for field in ("hits", "loads", "saves", "evictions", "dropped"):
                entry[field] += counters[field]
            entry["faults"] += sum(counters["faults"].values())
    return total


def _shares(workers: Any, kind: str) -> dict[str, dict[str, Any]]:
    """By owner: sums of what each worker has and may have itself, the largest of what they all see."""
    total: dict[str, dict[str, Any]] = {}
    for stats in workers:
        for owner, share in (stats.get("shares") or {}).get(kind, {}).items():
            entry = total.setdefault(owner, {"used": {}, "quotas": {}})
            for what in ("used", "quotas"):
                known = entry[what]
                for tier, nbytes in share.get(what, {}).items():
                    before = known.get(tier, 0)
                    known[tier] = before + nbytes if tier in _OWN else max(before, nbytes)
            entry |= {name: share[name] for name in ("tenant", "quality", "adapter") if name in share}
    return total
