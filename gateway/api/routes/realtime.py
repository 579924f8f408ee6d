"""`/v1/realtime`: open a WebRTC call by an SDP offer, and hang up. The shape is that of OpenAI's calls."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from gateway.api.access import key_check
from gateway.api.context import GatewayContext
from gateway.api.passing_on import pass_on
from gateway.errors import TooLarge
from gateway.transport.call import CONTROL, TOKENS
from gateway.transport.calls import Calls, process_of_call
from gateway.transport.lines import WebrtcUnavailable
from gateway.transport.signalling import OFFER_BYTES
from gateway.transport.streams import owner_of


def routes(context: GatewayContext) -> APIRouter:
    """`/v1/realtime`: offers of data channels answered, calls hung up."""
    router = APIRouter(prefix="/v1/realtime", tags=["streams"])
    check = key_check(context)

    @router.get("", summary="Are calls answered, and what does one need to make them?")
    async def capabilities(request: Request) -> Response:
        await check(request)
        calls = context.calls
        if calls is None:
            return _json({"webrtc": False, "eloquent": False, "reason": "This gateway answers no calls."})
        return _json(await _capabilities(calls))

    @router.post("/calls", status_code=201, summary="Open a call")
    async def open_call(request: Request) -> Response:
        """The body is an SDP offer, or a form with the part `sdp`; the answer's body is the SDP answer."""
        key = await check(request)
        if context.calls is None:
            raise WebrtcUnavailable("This gateway answers no calls.")
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > OFFER_BYTES:
                raise TooLarge(f"An offer has at most {OFFER_BYTES} bytes.")
        peer = request.client.host if request.client else ""
        call_id, sdp = await context.calls.open(key, request.headers, peer, bytes(body))
        location = {"location": f"/v1/realtime/calls/{call_id}"}
        return Response(sdp, 201, location, "application/sdp")

    @router.delete("/calls/{call_id}", status_code=204, summary="Hang up")
    async def hang_up(request: Request, call_id: str) -> Response:
        owner = owner_of(await check(request))
        if context.calls is None:
            raise WebrtcUnavailable("This gateway answers no calls.")
        siblings = context.calls.library.siblings
        sibling = siblings.other(process_of_call(call_id), request.headers)
        if sibling is not None:
            return await pass_on(siblings, sibling, request)
        context.calls.hang_up(call_id, owner)
        return Response(status_code=204)

    return router


async def _capabilities(calls: Calls) -> dict[str, object]:
    no_calls, no_packets = await calls.unavailable()
    document: dict[str, object] = {
        "webrtc": no_calls is None,
        "eloquent": no_packets is None,
        "ice_servers": [
            {"urls": [s.url], "username": s.username or None, "credential": s.credential or None}
            for s in calls.settings.ice_servers
        ],
        "channels": {"control": CONTROL, "tokens": TOKENS},
        "expires_after": calls.settings.idle_seconds,
    }
    if no_packets is not None:
        document["reason"] = no_packets
    return document


def _json(document: dict[str, object]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
