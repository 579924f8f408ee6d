from __future__ import annotations

from typing import Any

import pytest

from gateway.api.context import GatewayContext


async def test_list(visit: Any, become_ready: Any) -> None:
    become_ready("w0")
    async with visit() as client:
        first, second = (await client.get("/admin/workers")).json()["workers"]
    assert (first["id"], first["state"], first["models"], first["in_flight"]) == ("w0", "ready", ["small"], 0)
    assert (second["url"], second["health"], second["breaker"]) == (
        "http://127.0.0.1:9001",
        "unknown",
        "closed",
    )


async def test_add_drain_undrain_remove(visit: Any, context: GatewayContext) -> None:
    async with visit() as client:
        added = await client.post("/admin/workers", json={"url": "http://10.0.0.7:8000"})
        assert (added.status_code, added.json()["id"]) == (201, "10.0.0.7:8000")
        named = await client.post("/admin/workers", json={"id": "w9", "url": "http://10.0.0.8:8000/"})
        assert (named.json()["id"], named.json()["url"]) == ("w9", "http://10.0.0.8:8000")

        assert (await client.post("/admin/workers/w9/drain")).json()["draining"] is True
        assert context.membership.is_draining("w9")
        assert (await client.post("/admin/workers/w9/undrain")).json()["draining"] is False
        assert not context.membership.is_draining("w9")

        removed = await client.delete("/admin/workers/w9")
        assert removed.json() == {"id": "w9", "removed": True, "in_flight": 0}
        assert set(context.membership.fleet.workers) == {"w0", "w1", "10.0.0.7:8000"}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"url": "http://127.0.0.1:9000", "id": "w0"}, "there is a worker w0 already"),
        ({"url": "ftp://host"}, "is not a URL"),
        ({"url": "nonsense"}, "is not a URL"),
        ({}, "url: Field required"),
        ({"url": "http://a", "modle": "x"}, "modle: Extra inputs are not permitted"),
    ],
)
async def test_what_does_not_fit_is_a_400(visit: Any, body: dict[str, str], complaint: str) -> None:
    async with visit() as client:
        answer = await client.post("/admin/workers", json=body)
    assert answer.status_code == 400
    assert complaint in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/admin/workers/w7"),
        ("POST", "/admin/workers/w7/drain"),
        ("POST", "/admin/workers/w7/undrain"),
    ],
)
async def test_an_unknown_worker_is_a_404(visit: Any, method: str, path: str) -> None:
    async with visit() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "worker_id")
