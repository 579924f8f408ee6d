"""The same port over TLS: relayed requests, streams, refusals and the control plane."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from gateway.relay.settings import HttpLimits, RelaySettings

from .conftest import until

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture
async def client(
    start_gateway: Any, start_engine: Any, tmp_path: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """An HTTPS client that trusts the gateway's certificate, and the gateway."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for number, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(chain, append=number > 0)
    certificate.private_key_pem.write_to_path(key)
    settings = RelaySettings(limits=HttpLimits(body_bytes=10_000))
    gateway = await start_gateway(await start_engine(), settings=settings, tls=(chain, key))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with httpx.AsyncClient(verify=context, base_url=f"https://localhost:{gateway.port}") as https:
        yield https, gateway


async def test_answers_and_streams(client: tuple[httpx.AsyncClient, Any]) -> None:
    https, _ = client
    answer = await https.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 5
    async with https.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as stream:
        text = "".join([piece async for piece in stream.aiter_text()])
    assert text.endswith("data: [DONE]\n\n")


async def test_refusals_and_the_control_plane(client: tuple[httpx.AsyncClient, Any]) -> None:
    https, _ = client
    refused = await https.post("/v1/chat/completions", content=b"x" * 20_000)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
    assert (await https.get("/nothing")).status_code == 404


async def test_a_client_that_leaves_stops_its_request(client: tuple[httpx.AsyncClient, Any]) -> None:
    https, gateway = client
    body = {**CHAT, "stream": True, "max_tokens": 100_000}
    async with https.stream("POST", "/v1/chat/completions", json=body) as stream:
        await anext(stream.aiter_raw())
        await stream.aclose()
    await until(lambda: gateway.records)
    assert gateway.records[-1].end == "client_gone"
