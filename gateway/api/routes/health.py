"""`/health`, `/ready`, `/live`: whether the gateway lives, whether it can serve, and what the workers do."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from fastapi import APIRouter, Request, Response

from gateway.api.access import presented_key
from gateway.api.context import GatewayContext
from gateway.routing.fleet import Worker

Status = Literal["ok", "loading", "degraded", "draining"]
State = Literal[
    "ready",
    "starting",
    "loading",
    "restarting",
    "failed",
    "stopped",
    "draining",
    "unreachable",
    "failing",
]
"""`failing`: it is up, but requests to it keep failing, so its circuit breaker is open."""

_SUPERVISED: dict[str, State] = {
    "starting": "loading",
    "backoff": "restarting",
    "failed": "failed",
    "stopped": "stopped",
}


def routes(context: GatewayContext) -> APIRouter:
    """`/health` for people, `/ready` and `/live` for load balancers."""
    router = APIRouter(tags=["health"])

    @router.get("/health", summary="State of the gateway and its workers")
    async def health(request: Request) -> Response:
        """200 as long as the gateway lives. Where keys are asked for, URLs and messages need one."""
        details = context.keyring is None or presented_key(context, request) is not None
        body = {
            "status": status(context),
            "version": context.version,
            "workers": [describe(context, worker, details=details) for worker in context.membership.fleet],
        }
        return Response(orjson.dumps(body), media_type="application/json")

    @router.get(
        "/ready", summary="Readiness", responses={503: {"description": "No request can be served now."}}
    )
    async def ready() -> Response:
        """200 while a request can be served, else 503 and the reason."""
        reason = not_ready(context)
        if reason is None:
            return Response(b'{"status":"ready"}', media_type="application/json")
        body = orjson.dumps({"status": "draining" if context.draining else "not_ready", "reason": reason})
        return Response(body, 503, {"retry-after": "1"}, "application/json")

    @router.get("/live", summary="Liveness")
    async def live() -> Response:
        """200 as long as the event loop turns."""
        return Response(b'{"status":"alive"}', media_type="application/json")

    # Load balancers like to ask with HEAD; the API document need not say so.
    for path, endpoint in (("/health", health), ("/ready", ready), ("/live", live)):
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    return router


def status(context: GatewayContext) -> Status:
    """The gateway in one word, from the states of its workers."""
    if context.draining:
        return "draining"
    states = [worker_state(context, worker) for worker in context.membership.fleet]
    ready = states.count("ready")
    if ready:
        return "ok" if ready == len(states) else "degraded"
    return "loading" if "loading" in states or "starting" in states else "degraded"


def worker_state(context: GatewayContext, worker: Worker) -> State:
    """One word for a person. What traffic goes by is `Worker.health` and the breaker."""
    if worker.health == "ready":
        return "failing" if worker.breaker == "open" else "ready"
    if worker.health == "draining":
        return "draining"
    info = context.membership.infos.get(worker.id)
    supervised = _SUPERVISED.get(info.state) if info is not None else None
    return supervised or ("starting" if worker.health == "unknown" else "unreachable")


def describe(context: GatewayContext, worker: Worker, *, details: bool) -> dict[str, Any]:
    """A worker's entry in `/health`; URL and message only with `details`."""
    state = worker_state(context, worker)
    entry: dict[str, Any] = {
        "id": worker.id,
        "model": worker.models[0] if worker.models else None,
        "state": state,
    }
    info = context.membership.infos.get(worker.id)
    if info is not None and info.kv_layer:
        entry["kv_layer"] = info.kv_layer if details else info.kv_layer.partition(":")[0]
    if details:
        entry["url"] = worker.url
        entry["message"] = (
            "requests to it keep failing; it is tried again soon" if state == "failing" else worker.message
        )
    return entry


def not_ready(context: GatewayContext) -> str | None:
    """Why no request can be served now, or None if one can."""
    if context.draining:
        return "the gateway is shutting down"
    fleet = context.membership.fleet
    if any(worker.accepting for worker in fleet):
        return None
    if not fleet.workers:
        return "the gateway has no workers"
    return "; ".join(
        f"{worker.id}: {describe(context, worker, details=True)['message'] or worker_state(context, worker)}"
        for worker in fleet
    )
