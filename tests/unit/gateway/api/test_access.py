from __future__ import annotations

from typing import Any

import pytest

ADMIN = ("/admin/workers", "/admin/route/explain", "/admin/settings")


@pytest.mark.parametrize("path", ADMIN)
async def test_admin_needs_an_administrators_key(visit: Any, secrets: dict[str, str], path: str) -> None:
    async with visit() as client:
        assert (await client.get(path)).status_code == 401
    async with visit(secrets["user"]) as client:
        refused = await client.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    async with visit(secrets["admin"], client="203.0.113.9", host="gateway.example") as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ADMIN)
async def test_without_keys_admin_is_for_this_machine(visit: Any, path: str) -> None:
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        async with visit(host=host) as client:
            assert (await client.get(path)).status_code == 200
    async with visit(client="203.0.113.9") as client:
        refused = await client.get(path)
        assert refused.status_code == 403
        assert "sluice key create" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "null"},
        {"x-forwarded-for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
    ],
)
async def test_a_foreign_page_or_a_proxy_on_this_machine_is_not_this_machine(
    visit: Any, headers: dict[str, str]
) -> None:
    async with visit() as client:
        assert (await client.post("/admin/workers/w0/drain", headers=headers)).status_code == 403


async def test_dns_rebinding(visit: Any) -> None:
    async with visit(host="evil.example:8080") as client:
        assert (await client.get("/admin/workers")).status_code == 403


async def test_our_own_page_may(visit: Any) -> None:
    async with visit() as client:
        answer = await client.post("/admin/workers/w0/drain", headers={"origin": "http://127.0.0.1:8080"})
        assert answer.status_code == 200
