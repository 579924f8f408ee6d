"""`/health`, `/ready` and `/live` while the worker loads and afterwards."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.vllm
def test_the_gateway_answers_while_its_worker_loads(vllm_sluice: Any) -> None:
    health = vllm_sluice.first_health
    assert health["status"] == "loading"
    (worker,) = health["workers"]
    assert worker["id"] == "worker-0"
    assert worker["state"] == "loading"
    assert worker["message"].startswith("the model is loading")


def test_all_is_well(sluice: Any, model: str) -> None:
    health = sluice.health()
    assert health["status"] == "ok"
    assert health["version"] in sluice.output
    (worker,) = health["workers"]
    assert (worker["id"], worker["state"], worker["model"]) == ("worker-0", "ready", model)
    assert sluice.get("/ready").json() == {"status": "ready"}
    assert sluice.get("/live").status_code == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/docs", "text/html"), ("/openapi.json", "application/json")],
)
def test_what_people_open_in_a_browser(sluice: Any, path: str, kind: str) -> None:
    answer = sluice.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
