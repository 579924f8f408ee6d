"""The control plane: everything on the gateway's port that is not an inference request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from gateway.api import errors
from gateway.api.access import admin_check
from gateway.api.context import GatewayContext
from gateway.api.openapi import describe
from gateway.api.request_id import RequestId
from gateway.api.routes import (
    cache,
    docs,
    health,
    insight,
    metrics,
    models,
    pages,
    realtime,
    streams,
    workers,
)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_DESCRIPTION = (
    "An OpenAI-compatible gateway over inference workers. Inference requests are relayed to a worker byte "
    "for byte: every field that the engine knows may be sent, and answers come back as the engine wrote them."
)


def create_app(context: GatewayContext, lifespan: Lifespan | None = None) -> FastAPI:
    """The application for one process.

    Inference paths are described in its OpenAPI document but served by `gateway.relay`, which stands in
    front of it on the same port.
    """
    app = FastAPI(
        title="Sluice",
        version=context.version,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    errors.install(app)
    admin: list[Any] = [Depends(admin_check(context))]
    app.include_router(health.routes(context))
    app.include_router(metrics.routes(context))
    app.include_router(models.routes(context))
    app.include_router(streams.routes(context))
    app.include_router(realtime.routes(context))
    app.include_router(workers.routes(context), dependencies=admin)
    app.include_router(insight.routes(context), dependencies=admin)
    app.include_router(cache.routes(context), dependencies=admin)
    app.include_router(docs.routes(app))
    pages.install(app, context.page)
    app.add_middleware(RequestId)
    if context.relay.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=context.relay.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "x-sluice-stream-id", "location"],
        )
    describe(app)
    return app
