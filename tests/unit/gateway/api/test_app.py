from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import structlog.testing

from gateway.api.context import GatewayContext
from gateway.relay.settings import RelaySettings
from gateway.telemetry.settings import TelemetrySettings


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("POST", "/v1/files", 404, "not_found"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/admin/route/explain?limit=0", 400, "invalid_request"),
        ("GET", "/admin/route/explain?limit=x", 400, "invalid_request"),
    ],
)
async def test_errors_have_openais_form(visit: Any, method: str, path: str, status: int, code: str) -> None:
    async with visit() as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


async def test_malformed_json_is_a_400(visit: Any) -> None:
    async with visit() as client:
        answer = await client.post(
            "/admin/workers", content=b'{"url": ', headers={"content-type": "application/json"}
        )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_json", None)
    assert error["message"].startswith("The request body is not valid JSON: ")
    assert error["message"].endswith("(byte 8)")


async def test_a_body_that_is_not_said_to_be_json_is_told_how(visit: Any) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    async with visit() as client:
        answer = await client.post("/admin/workers", content=b'{"id": "x", "url": "http://x"}', headers=form)
    assert answer.status_code == 400
    assert "content-type: application/json" in answer.json()["error"]["message"]


async def test_a_405_says_what_is_allowed(visit: Any) -> None:
    async with visit() as client:
        assert (await client.delete("/v1/models")).headers["allow"] == "GET"


async def test_what_breaks_is_a_500_that_tells_nothing(visit: Any, context: GatewayContext) -> None:
    class Broken:
        def explain(self, limit: int = 100) -> Any:
            raise RuntimeError("secret detail")

    context.router = Broken()
    async with visit() as client:
        with structlog.testing.capture_logs() as logs:
            answer = await client.get("/admin/route/explain")
    assert answer.status_code == 500
    assert [entry["path"] for entry in logs] == ["/admin/route/explain"]
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


async def test_request_ids_come_back(visit: Any) -> None:
    async with visit() as client:
        assert (await client.get("/health", headers={"x-request-id": "abc-1"})).headers[
            "x-request-id"
        ] == "abc-1"
        made_up = (await client.get("/nothing")).headers["x-request-id"]
        assert len(made_up) == 24
        unusable = (await client.get("/live", headers={"x-request-id": "a b"})).headers["x-request-id"]
        assert unusable != "a b"


async def test_metrics(visit: Any, context: GatewayContext) -> None:
    async with visit() as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert f'sluice_build_info{{version="{context.version}"}} 1.0' in answer.text


async def test_metrics_may_need_a_key(visit: Any, context: GatewayContext, secrets: dict[str, str]) -> None:
    async with visit() as client:
        assert (await client.get("/metrics")).status_code == 200
        context.telemetry = replace(TelemetrySettings(), metrics_need_key=True)
        assert (await client.get("/metrics")).status_code == 401
    async with visit(secrets["user"]) as client:
        assert (await client.get("/metrics")).status_code == 200


async def test_cors_only_where_it_is_set(visit: Any, context: GatewayContext) -> None:
    ours, theirs = {"origin": "https://app.example"}, {"origin": "https://evil.example"}
    async with visit() as client:
        assert "access-control-allow-origin" not in (await client.get("/v1/models", headers=ours)).headers
    context.relay = RelaySettings(cors_origins=("https://app.example",))
    async with visit() as client:
        allowed = await client.get("/v1/models", headers=ours)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-origin" not in (await client.get("/v1/models", headers=theirs)).headers
        preflight = {
            **ours,
            "access-control-request-method": "GET",
            "access-control-request-headers": "authorization",
        }
        assert (await client.options("/v1/models", headers=preflight)).status_code == 200
