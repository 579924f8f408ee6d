"""The WebRTC library, which is large, is loaded by the first who asks for calls, and not at the start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.chat.channel import Channel


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_it_is_loaded_by_the_first_call(
    start_sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiortc")
    monkeypatch.setattr("gateway.chat.channel._OPEN_SECONDS", 60.0)
    sluice = start_sluice("--", "--answer-tokens=12")
    assert sluice.get("/v1/models").status_code == 200
    assert "_pydantic_core" in mapped(sluice), "the look at mapped files sees libraries"
    assert not [name for name in ("/av/", "/av.libs/", "/cryptography/") if name in mapped(sluice)]
    async with httpx.AsyncClient(base_url=sluice.url, timeout=60) as http:
        channel = Channel(http)
        await channel.open()
        assert "/av/" in mapped(sluice)
        headers = {"x-sluice-stream": "resumable"}
        body = {"model": "fake", "messages": [{"role": "user", "content": "Hello."}], "stream": True}
        answer = await http.post("/v1/chat/completions", json=body, headers=headers)
        over: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        data: list[bytes] = []
        stream_id = answer.headers["x-sluice-stream-id"]
        channel.follow(stream_id, 0, lambda _, piece: data.append(piece), over.set_result)
        assert await asyncio.wait_for(over, 60) is None
        assert b"".join(b"data: %b\n\n" % piece for piece in data) == answer.content
        await channel.close()


def mapped(sluice: Any) -> str:
    """Files that the gateway's processes have mapped, libraries among them."""
    return "\n".join(Path(f"/proc/{pid}/maps").read_text() for pid in sluice.gateway_pids())
