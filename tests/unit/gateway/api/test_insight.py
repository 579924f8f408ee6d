from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gateway.api.context import GatewayContext
from gateway.api.routes.insight import MASK, mask
from gateway.routing.assignment import RouteRequest


async def test_decisions_are_explained_newest_first(
    visit: Any, context: GatewayContext, become_ready: Any
) -> None:
    become_ready("w0")
    router: Any = context.router
    for _ in range(3):
        assignment = router.assign(RouteRequest("small", b"", b'[{"role":"user"}]'), time.monotonic())
    assignment.first_byte(time.monotonic())
    assignment.finish(time.monotonic(), "ok", 10, 4, 2)
    async with visit() as client:
        decisions = (await client.get("/admin/route/explain", params={"limit": 2})).json()["decisions"]
    assert len(decisions) == 2
    newest, older = decisions
    assert (newest["worker"], newest["outcome"], newest["cached_tokens"]) == ("w0", "ok", 4)
    assert older["outcome"] is None
    assert 0 <= newest["seconds_ago"] <= older["seconds_ago"] < 60


async def test_settings_are_shown_without_secrets(visit: Any, context: GatewayContext) -> None:
    context.settings = {
        "relay": {"worker_api_key": "sesame", "cors_origins": ("*",), "drain_seconds": 30.0},
        "access": {"key_file": Path("keys.json"), "public_without_keys": False},
        "telemetry": {"otlp_endpoint": "http://me:sesame@collector:4318/x"},
    }
    async with visit() as client:
        answer = await client.get("/admin/settings")
    assert "sesame" not in answer.text
    assert answer.json() == {
        "relay": {"worker_api_key": MASK, "cors_origins": ["*"], "drain_seconds": 30.0},
        "access": {"key_file": "keys.json", "public_without_keys": False},
        "telemetry": {"otlp_endpoint": f"http://me:{MASK}@collector:4318/x"},
    }


def test_masking_goes_by_name_and_leaves_the_rest() -> None:
    values = {
        "token": "t",
        "hf_token": "t",
        "keys": ["a", "b"],
        "password": "",
        "key_file": "keys.json",
        "index_bytes": 3,
        "cache_tokens": 9,
        "tokens": "plain",
        "url": "http://user@host/",
        "args": ["--seed", "3", "--no-key", "--api-key", "a", "b", "--hf-token=c", "--api-key", "--x=1"],
        "nothing": None,
    }
    assert mask(values) == {
        **values,
        "token": MASK,
        "hf_token": MASK,
        "keys": [MASK, MASK],
        "args": [
            "--seed",
            "3",
            "--no-key",
            "--api-key",
            MASK,
            "b",
            f"--hf-token={MASK}",
            "--api-key",
            "--x=1",
        ],
    }
