from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.api.context import GatewayContext


@pytest.fixture
def page(tmp_path: Path, context: GatewayContext) -> Path:
    folder = tmp_path / "dist"
    for name in ("assets", "icons"):
        (folder / name).mkdir(parents=True)
    (folder / "icons" / "a.svg").write_text("<svg/>")
    (folder / "index.html").write_text("<!doctype html><title>chat</title>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "index-abc123.js").write_text("let a")
    (tmp_path / "outside.txt").write_text("private")
    context.page = folder
    return folder


async def test_the_page_may_load_nothing_from_elsewhere(visit: Any, page: Path) -> None:
    async with visit() as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
        assert "<title>chat</title>" in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe" not in policy
        assert (await client.head("/")).status_code == 200


async def test_hashed_assets_are_kept_and_others_are_not(visit: Any, page: Path) -> None:
    async with visit() as client:
        asset = await client.get("/assets/index-abc123.js")
        assert (asset.text, asset.headers["x-content-type-options"]) == ("let a", "nosniff")
        assert "immutable" in asset.headers["cache-control"]
        assert (await client.get("/favicon.svg")).headers["cache-control"] == "no-cache"
        assert (await client.get("/icons/a.svg")).headers["cache-control"] == "no-cache"
        tag = {"if-none-match": asset.headers["etag"]}
        assert (await client.get("/assets/index-abc123.js", headers=tag)).status_code == 304


@pytest.mark.parametrize("path", ["/assets/gone.js", "/assets/../../outside.txt", "/outside.txt", "/assets"])
async def test_everything_else_is_a_404_in_our_form(visit: Any, page: Path, path: str) -> None:
    async with visit() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_page_that_was_not_built_says_how(visit: Any) -> None:
    async with visit() as client:
        answer = await client.get("/")
    assert answer.status_code == 200
    assert "npm run build" in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
