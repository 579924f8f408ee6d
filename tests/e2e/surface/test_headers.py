"""What the gateway adds to an answer: who asked, who answered, how long it took."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"


def _body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2, **fields}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_request_id_goes_through_to_the_engine_and_back(sluice: Any, model: str, stream: bool) -> None:
    answer = sluice.post(CHAT, _body(model, stream=stream), headers={"x-request-id": "ticket-17.a"})
    assert answer.headers.get_list("x-request-id") == ["ticket-17.a"]
    assert '"id":"chatcmpl-ticket-17.a"' in answer.text


def test_every_request_has_an_id_of_its_own(sluice: Any, model: str) -> None:
    answers = [sluice.post(CHAT, _body(model)) for _ in range(2)]
    answers += [sluice.post(CHAT, _body("no-such-model")), sluice.get("/v1/models")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 4
    for answer, request_id in zip(answers[:2], ids[:2], strict=True):
        assert answer.json()["id"] == f"chatcmpl-{request_id}"


def test_an_id_that_could_forge_headers_or_logs_is_replaced(sluice: Any, model: str) -> None:
    answer = sluice.post(CHAT, _body(model), headers={"x-request-id": "a b\tc"})
    assert answer.headers["x-request-id"] != "a b\tc"
    assert re.fullmatch(r"[0-9a-f]{24}", answer.headers["x-request-id"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_worker_the_reason_and_the_times_are_named(sluice: Any, model: str, stream: bool) -> None:
    answer = sluice.post(CHAT, _body(model, stream=stream))
    workers = [worker["id"] for worker in sluice.health()["workers"]]
    assert answer.headers["x-sluice-worker"] in workers
    assert answer.headers["x-sluice-route"].startswith("ttft:")
    times = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
    assert times.keys() == {"queue", "route", "connect", "first_byte"}
    assert float(times["first_byte"]) >= 0


def test_a_stream_is_told_to_proxies_as_one(sluice: Any, model: str) -> None:
    answer = sluice.post(CHAT, _body(model, stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert "no-cache" in answer.headers["cache-control"]


def test_a_policy_may_be_wished_for(sluice: Any, model: str) -> None:
    answer = sluice.post(CHAT, _body(model), headers={"x-sluice-policy": "least_load"})
    assert answer.headers["x-sluice-route"].startswith("least_load:")
    refused = sluice.post(CHAT, _body(model), headers={"x-sluice-policy": "no-such-policy"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unknown_policy"


def test_connections_are_kept(sluice: Any, model: str) -> None:
    """Errors, streams and the control plane share one connection with what comes after them."""
    with httpx.Client(base_url=sluice.url, timeout=300, verify=False) as client:
        ports = set()
        for body in (_body(model), _body(model, stream=True), _body("no-such-model"), _body(model)):
            answer = client.post(CHAT, json=body)
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        answer = client.get("/health")
        ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1
