"""`/v1/streams/{id}`: read a kept stream again, or end it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from gateway.api.access import key_check
from gateway.api.context import GatewayContext
from gateway.api.follow import FollowResponse
from gateway.api.passing_on import pass_on
from gateway.transport.reader import starting_after as number_of
from gateway.transport.streams import not_found, owner_of, process_of


def routes(context: GatewayContext) -> APIRouter:
    """`/v1/streams`: kept streams read again and cancelled."""
    router = APIRouter(prefix="/v1/streams", tags=["streams"])
    check = key_check(context)
    library = context.streams

    @router.get("/{stream_id}", summary="Read a stream again, and follow it to its end")
    async def follow(
        request: Request,
        stream_id: str,
        starting_after: Annotated[
            str | None, Query(description="Number of the last event that is not needed.")
        ] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Events above `starting_after` (or the header `Last-Event-ID`), each with an `id:` line."""
        owner = owner_of(await check(request))
        after = number_of(starting_after, last_event_id)
        if library is None:
            raise not_found(stream_id)
        sibling = library.siblings.other(process_of(stream_id), request.headers)
        if sibling is not None:
            return await pass_on(library.siblings, sibling, request)
        reader = await library.read(stream_id, owner, after, "get")
        if starting_after is None and last_event_id and reader.status != "running" and reader.at_end:
            # What an EventSource understands as: do not come again (WHATWG HTML section 9.2.3).
            await reader.close()
            return Response(status_code=204)
        return FollowResponse(reader, context.relay.ping_seconds, context.relay.timeouts.stalled_client)

    @router.delete("/{stream_id}", summary="Cancel a stream")
    async def cancel(request: Request, stream_id: str) -> Response:
        """The engine stops; what was written stays readable until it expires."""
        owner = owner_of(await check(request))
        if library is None:
            raise not_found(stream_id)
        sibling = library.siblings.other(process_of(stream_id), request.headers)
        if sibling is not None:
            return await pass_on(library.siblings, sibling, request)
        status, last = await library.cancel(stream_id, owner)
        return _json({"id": stream_id, "object": "stream", "status": status, "last": last})

    return router


def _json(document: dict[str, Any]) -> Response:
    import orjson

    return Response(orjson.dumps(document), media_type="application/json")
