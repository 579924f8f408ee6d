"""Kept streams and calls with several gateway processes: whoever is asked, the one that has it answers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.chat.channel import Channel

BODY = {"model": "fake", "messages": [{"role": "user", "content": "Hello."}], "stream": True}


@pytest.fixture(scope="module")
def two_processes(start_sluice: Callable[..., Any], metric: Callable[..., float]) -> Any:
    sluice = start_sluice("--processes", "2", "--", "--answer-tokens=30", "--itl=0.005")
    sluice.until(lambda: all(sockets_of(sluice, number) for number in range(2)), "both serve their sibling")
    sluice.until(
        lambda: metric(sluice.url, "sluice_worker_health", state="ready") == 2, "both saw the worker ready"
    )
    return sluice


def process(sluice: Any, number: int) -> str:
    """The Unix socket of one of its processes."""
    return str(sockets_of(sluice, number)[0])


def sockets_of(sluice: Any, number: int) -> list[Path]:
    # The temporary folder is used where the path of the other is too long for a socket.
    folders = [sluice.state_dir / "run", *Path(tempfile.gettempdir()).glob("sluice-*")]
    return [path for folder in folders if (path := folder / f"front-{number}").exists()]


def test_read_follow_and_cancel_from_the_other_process(two_processes: Any) -> None:
    with (
        httpx.Client(
            transport=httpx.HTTPTransport(uds=process(two_processes, 0)), base_url="http://x", timeout=60
        ) as first,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=process(two_processes, 1)), base_url="http://x", timeout=60
        ) as second,
    ):
        answer = first.post("/v1/chat/completions", json=BODY, headers={"x-sluice-stream": "resumable"})
        stream_id = answer.headers["x-sluice-stream-id"]
        assert stream_id.startswith("st0_")
        for after in (0, 5, 31):
            path = f"/v1/streams/{stream_id}?starting_after={after}"
            assert first.get(path).text == second.get(path).text
        assert second.get(f"/v1/streams/{stream_id[:-2]}AA").status_code == 404
        long = BODY | {"max_tokens": 5000, "ignore_eos": True}
        with second.stream(
            "POST", "/v1/chat/completions", json=long, headers={"x-sluice-stream": "detached"}
        ) as a:
            stream_id = a.headers["x-sluice-stream-id"]
            assert stream_id.startswith("st1_")
            ended = first.delete(f"/v1/streams/{stream_id}")
            assert ended.json()["status"] == "cancelled"
            assert b"stream_cancelled" in a.read()


async def test_a_call_in_one_process_carries_streams_of_the_other(
    two_processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiortc")
    monkeypatch.setattr("gateway.chat.channel._OPEN_SECONDS", 60.0)
    transports = [httpx.AsyncHTTPTransport(uds=process(two_processes, number)) for number in range(2)]
    async with (
        httpx.AsyncClient(transport=transports[0], base_url="http://x", timeout=60) as first,
        httpx.AsyncClient(transport=transports[1], base_url="http://x", timeout=60) as second,
    ):
        channel = Channel(first)
        await channel.open()
        answer = await second.post(
            "/v1/chat/completions", json=BODY, headers={"x-sluice-stream": "resumable"}
        )
        data: list[bytes] = []
        over: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        channel.follow(
            answer.headers["x-sluice-stream-id"], 0, lambda _, piece: data.append(piece), over.set_result
        )
        assert await asyncio.wait_for(over, 60) is None
        assert b"".join(b"data: %b\n\n" % piece for piece in data) == answer.content
        # Hung up through the process that does not have the call.
        assert (await second.delete(channel._location)).status_code == 204
        assert (await second.delete(channel._location)).status_code == 404
        await channel.close()
