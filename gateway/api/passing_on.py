"""A request for what lives in another process of this gateway, passed on and answered from there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
from fastapi import Request, Response
from starlette.responses import StreamingResponse

from gateway.errors import Unavailable
from gateway.transport.siblings import Siblings

_PASSED_BACK = (
    "content-type",
    "cache-control",
    "x-accel-buffering",
    "x-sluice-stream-id",
    "location",
    "retry-after",
)


async def pass_on(siblings: Siblings, number: int, request: Request) -> Response:
    """The answer of process `number` to `request`. Raises Unavailable."""
    stack = AsyncExitStack()
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    peer = request.client.host if request.client else ""
    try:
        answer = await stack.enter_async_context(
            siblings.ask(
                number, request.method, path, request.headers, peer=peer, content=await request.body()
            )
        )
    except httpx.HTTPError as error:
        await stack.aclose()
        raise Unavailable(
            f"The gateway process {number}, which holds this, does not answer; it may be restarting.",
            code="process_unavailable",
            retry_after=1,
        ) from error
    headers = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}

    async def body() -> AsyncIterator[bytes]:
        async with stack:
            async for piece in answer.aiter_raw():
                yield piece

    return StreamingResponse(body(), answer.status_code, headers)
