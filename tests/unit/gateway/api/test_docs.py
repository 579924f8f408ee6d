from __future__ import annotations

import re
from typing import Any

from gateway.api.relayed import ENDPOINTS
from gateway.relay.request import FAMILIES


async def test_the_document_covers_the_relayed_endpoints(visit: Any) -> None:
    async with visit() as client:
        document = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    assert {endpoint.path for endpoint in ENDPOINTS} <= paths.keys()
    assert {"/v1/models", "/health", "/admin/workers/{worker_id}/drain"} <= paths.keys()
    chat = paths["/v1/chat/completions"]["post"]
    assert "text/event-stream" in chat["responses"]["200"]["content"]
    assert chat["requestBody"]["content"]["application/json"]["schema"]["additionalProperties"] is True


def test_what_is_relayed_is_described_and_the_other_way_round() -> None:
    described = {path for endpoint in ENDPOINTS for path in (endpoint.path, *endpoint.also)}
    assert described == {path.decode() for path in FAMILIES}


async def test_every_reference_in_the_document_leads_somewhere(visit: Any) -> None:
    async with visit() as client:
        answer = await client.get("/openapi.json")
    schemas = answer.json()["components"]["schemas"]
    references = set(re.findall(r"#/components/schemas/(\w+)", answer.text))
    assert "Error" in references
    assert references <= schemas.keys()
    operations = [operation for path in answer.json()["paths"].values() for operation in path.values()]
    assert all("422" not in operation["responses"] for operation in operations)
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)


async def test_the_page_lists_everything_and_loads_nothing(visit: Any) -> None:
    async with visit() as client:
        answer = await client.get("/docs")
        assert (await client.get("/docs")).text == answer.text
    for path in ("/v1/chat/completions", "/v1/models", "/metrics", "/admin/workers/{worker_id}"):
        assert f"<code>{path}</code>" in answer.text
    assert "curl -X POST http://127.0.0.1:8080/v1/chat/completions " in answer.text
    assert "<code>Retry-After</code>" in answer.text
    async with visit(host='"><script>:1') as client:
        assert "<script" not in (await client.get("/docs")).text
    assert not re.search(r"<script|<link|<img|src=|url\(", answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
