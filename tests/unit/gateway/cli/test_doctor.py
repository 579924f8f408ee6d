"""What `sluice doctor` looks at in the gateway, well and ill; the machine's checks are tested beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from engine_adapter.doctor import Finding
from gateway.access.keys import append_key, new_key
from gateway.cli.doctor import examine
from gateway.cli.doctor_gateway import check_access, check_extras, check_page, check_workers_elsewhere
from gateway.cli.flags import flag_layer
from gateway.settings import Settings, load


def settings(environment: dict[str, str] | None = None, **flags: Any) -> Settings:
    return load(None, environment or {}, flag_layer(**flags))


def test_a_page_that_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.doctor_gateway.find_page", lambda: None)
    assert "make page" in check_page().remedy
    monkeypatch.setattr("gateway.cli.doctor_gateway.find_page", lambda: Path("/there"))
    assert check_page().level == "ok"


def test_keys(tmp_path: Path) -> None:
    assert check_access(settings()).level == "ok"
    public = check_access(settings(host="0.0.0.0"))
    assert public.level == "fail"
    assert "sluice key create" in public.remedy
    file = tmp_path / "keys.json"
    append_key(file, new_key("alice")[1])
    assert check_access(settings(host="0.0.0.0", api_key_file=str(file))) == Finding(
        "keys", "ok", f"1 in {file}"
    )
    file.write_text("[")
    broken = check_access(settings(api_key_file=str(file)))
    assert broken.level == "fail"
    assert "cannot be used" in broken.text


@pytest.mark.parametrize(
    ("environment", "module", "level", "extra"),
    [
        ({}, "aiortc", "warn", "sluice[webrtc]"),
        ({"SLUICE_KV__VALKEY__URL": "redis://cache:6379/0"}, "valkey", "fail", "sluice[kv]"),
        ({"SLUICE_KV__OBJECT__URL": "s3://bucket/kv"}, "obstore", "fail", "sluice[kv]"),
        ({"SLUICE_STREAMS__VALKEY_URL": "valkey://cache:6379/0"}, "valkey", "fail", "sluice[valkey]"),
        ({"SLUICE_TELEMETRY__OTLP_ENDPOINT": "http://traces:4318"}, "opentelemetry", "fail", "sluice[otel]"),
    ],
)
def test_a_library_that_a_setting_needs(
    environment: dict[str, str], module: str, level: str, extra: str
) -> None:
    (finding,) = check_extras(settings(environment), lambda name: name != module)
    assert finding.level == level
    assert f"pip install '{extra}'" in finding.remedy
    assert list(check_extras(settings(environment), lambda name: True)) == []


def test_nothing_is_missed_that_is_switched_off() -> None:
    environment = {"SLUICE_REALTIME__ENABLED": "false"}
    assert list(check_extras(settings(environment), lambda name: False)) == []


@pytest.mark.parametrize(("status", "level"), [(200, "ok"), (404, "warn"), (None, "fail")])
def test_workers_elsewhere(monkeypatch: pytest.MonkeyPatch, status: int | None, level: str) -> None:
    def get(url: str, timeout: float) -> httpx.Response:
        assert url == "http://10.0.0.7:8000/health"
        if status is None:
            raise httpx.ConnectError("connection refused")
        return httpx.Response(status)

    monkeypatch.setattr("gateway.cli.doctor_gateway.httpx.get", get)
    (finding,) = check_workers_elsewhere(settings(worker_url=["http://10.0.0.7:8000"]))
    assert finding.level == level


def test_without_workers_of_its_own_the_engine_is_not_looked_at(tmp_path: Path) -> None:
    environment = {"SLUICE_SUPERVISION__STATE_DIR": str(tmp_path)}
    found = {finding.check for finding in examine(settings(environment, engine="fake", port=0), quick=True)}
    assert {"python", "port", "keys", "disk", "memory"} <= found
    assert not found & {"gpu", "model", "vllm", "torchvision"}
