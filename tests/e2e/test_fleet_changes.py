"""Workers that join and leave while requests are served: by settings file, fleet file, and by request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ALIAS = "another-name"
ASK = {"model": "fake", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2}


@pytest.fixture(scope="module")
def two_workers(start_sluice: Callable[..., Any]) -> list[str]:
    """URLs of two workers that another gateway keeps."""
    keeper = start_sluice("--workers", "2")
    keeper.until(lambda: keeper.health()["status"] == "ok", "both workers were ready")
    urls: list[str] = keeper.worker_urls()
    return urls


def ready(sluice: Any) -> set[str]:
    """URLs of the workers that it may send requests to."""
    return {worker["url"] for worker in sluice.health()["workers"] if worker["state"] == "ready"}


def until_ready(sluice: Any, urls: list[str]) -> None:
    """Every gateway process, and whichever of them is asked."""
    sluice.until(
        lambda: all(ready(sluice) == set(urls) for _ in range(4)), f"the workers were {urls}", within=120
    )
    assert sluice.post("/v1/chat/completions", ASK).status_code == 200


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_settings_file_is_watched(
    start_sluice: Callable[..., Any], two_workers: list[str], tmp_path: Path, processes: str
) -> None:
    first, second = two_workers
    settings = tmp_path / "sluice.yaml"

    def write(urls: list[str]) -> None:
        written = {"engine": {"worker_urls": urls}, "relay": {"aliases": {ALIAS: "fake"}}}
        settings.write_text(json.dumps(written))

    def alias_answers() -> bool:
        listed = {model["id"] for model in sluice.get("/v1/models").json()["data"]}
        return ALIAS in listed and sluice.post("/v1/chat/completions", ASK | {"model": ALIAS}).is_success

    write([first])
    sluice = start_sluice("--config", str(settings), "--processes", processes)
    until_ready(sluice, [first])
    assert alias_answers()
    write([first, second])
    until_ready(sluice, [first, second])
    settings.write_text("engine: {worker_urls: [nonsense]}\n")
    sluice.until(lambda: "cannot be used" in sluice.output, "the mistake was told", within=120)
    until_ready(sluice, [first, second])
    write([second])
    until_ready(sluice, [second])
    assert alias_answers()
    sluice.stop()


def test_a_fleet_file_that_others_keep_is_watched(
    start_sluice: Callable[..., Any], two_workers: list[str], tmp_path: Path
) -> None:
    first, second = two_workers
    fleet = tmp_path / "workers.json"

    def write(**workers: str) -> None:
        listed = [{"id": name, "url": url} for name, url in workers.items()]
        temporary = tmp_path / "next.json"
        temporary.write_text(json.dumps({"workers": listed}))
        temporary.replace(fleet)

    write(a=first)
    settings = tmp_path / "sluice.yaml"
    settings.write_text(f"engine: {{fleet_file: {fleet}}}\n")
    sluice = start_sluice("--config", str(settings))
    until_ready(sluice, [first])
    write(a=first, b=second)
    until_ready(sluice, [first, second])
    write(b=second)
    until_ready(sluice, [second])
    sluice.stop()


def test_workers_join_and_leave_by_request(start_sluice: Callable[..., Any], two_workers: list[str]) -> None:
    first, second = two_workers
    sluice = start_sluice("--worker-url", first)
    assert sluice.post("/admin/workers", {"id": "b", "url": second}).status_code == 201
    until_ready(sluice, [first, second])
    listed = sluice.get("/admin/workers").json()["workers"]
    other = next(worker["id"] for worker in listed if worker["url"] == first)
    assert sluice.post(f"/admin/workers/{other}/drain", {}).status_code == 200
    until_ready(sluice, [second])
    assert sluice.post("/v1/chat/completions", ASK).headers["x-sluice-worker"] == "b"
    sluice.stop()
