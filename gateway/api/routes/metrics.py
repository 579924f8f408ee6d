"""`/metrics` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway.api.access import key_check
from gateway.api.context import GatewayContext


def routes(context: GatewayContext) -> APIRouter:
    """`/metrics`, which may need a key."""
    router = APIRouter(tags=["health"])
    check = key_check(context)

    @router.get("/metrics", summary="Metrics for Prometheus, over all processes of the gateway")
    async def metrics(request: Request) -> Response:
        if context.telemetry.metrics_need_key:
            await check(request)
        body, content_type = await context.exposition.render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return router
