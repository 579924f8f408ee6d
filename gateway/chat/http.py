"""An answer over HTTP: the POST that asks for it, and the GET that goes on with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from gateway.chat.sse import EventParser

PATH = "/v1/chat/completions"
STREAM_ID = "x-sluice-stream-id"


class ChatError(Exception):
    """The gateway refused, or cannot be reached; the message is for people."""


@dataclass(slots=True)
class Answer:
    """One open response. `events` may be read once."""

    response: httpx.Response
    after: int
    """Number of the event before its first."""

    @property
    def stream_id(self) -> str:
        """Empty if the gateway keeps no log of it."""
        return str(self.response.headers.get(STREAM_ID, ""))

    async def events(self) -> AsyncIterator[tuple[int, bytes]]:
        """Numbers and data, to the end of the body. Raises httpx.HTTPError where it breaks off."""
        parser = EventParser()
        number = self.after
        async for piece in self.response.aiter_raw():
            for event in parser.feed(piece):
                number = event.number if event.number is not None else number + 1
                yield number, event.data

    async def close(self) -> None:
        await self.response.aclose()


async def ask(http: httpx.AsyncClient, body: dict[str, Any], *, keep: bool) -> Answer:
    """POST a chat request; with `keep` its stream can be resumed. Raises ChatError."""
    headers = {"x-sluice-stream": "resumable"} if keep else {}
    return await _open(
        http, http.build_request("POST", PATH, json=body | {"stream": True}, headers=headers), 0
    )


async def resume(http: httpx.AsyncClient, stream_id: str, after: int) -> Answer:
    """Go on with a kept stream behind event `after`. Raises ChatError, httpx.HTTPError."""
    request = http.build_request("GET", f"/v1/streams/{stream_id}", params={"starting_after": after})
    response = await http.send(request, stream=True)
    if response.status_code != 200:
        raise await _refused(response)
    return Answer(response, after)


async def _open(http: httpx.AsyncClient, request: httpx.Request, after: int) -> Answer:
    try:
        response = await http.send(request, stream=True)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ChatError(
            f"{request.url.scheme}://{request.url.netloc.decode()} does not answer: {reason}"
        ) from error
    if response.status_code != 200:
        raise await _refused(response)
    return Answer(response, after)


async def _refused(response: httpx.Response) -> ChatError:
    await response.aread()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return ChatError(f"{message} (status {response.status_code})")
