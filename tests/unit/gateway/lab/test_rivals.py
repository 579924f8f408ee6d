from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.lab.rivals import Rivals

ANSWER = b'data: {"a":1}\n\n: ping\n\ndata: {"b":2}\n\ndata: [DONE]\n\n'


class Line:
    def __init__(self, expected: int) -> None:
        self.sent: list[bytes] = []
        self.closed = False
        self.full = asyncio.Event()
        self._expected = expected

    def send_reliable(self, packet: bytes) -> None:
        self.sent.append(packet)
        if len(self.sent) == self._expected:
            self.full.set()

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
async def rivals() -> AsyncIterator[Rivals]:
    async def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/chat/completions"
        return httpx.Response(200, stream=httpx.ByteStream(ANSWER))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://engine") as engine:
        rivals = Rivals(engine)
        yield rivals
        await rivals.close()


async def test_every_call_of_a_group_carries_every_event(rivals: Rivals) -> None:
    first, second, other = Line(3), Line(3), Line(3)
    for line, group in ((first, "a"), (second, "a"), (other, "b")):
        rivals.take(line, {"join": group})
    rivals.take(second, {"group": "a", "body": {"stream": True}})
    async with asyncio.timeout(60):
        await first.full.wait()
        await second.full.wait()
    numbered = [b'\0\0\0\1{"a":1}', b'\0\0\0\2{"b":2}', b"\0\0\0\3[DONE]"]
    assert first.sent == second.sent == numbered
    assert other.sent == []


async def test_a_group_that_nobody_joined_gets_nothing(rivals: Rivals) -> None:
    with pytest.raises(KeyError):
        rivals.take(Line(1), {"group": "a", "body": {}})
