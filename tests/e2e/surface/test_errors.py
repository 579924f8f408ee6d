"""What goes wrong is told in OpenAI's form with the right status, whoever finds it."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

CHAT = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "Hello."}]

GENERATING = [
    (CHAT, {"messages": HELLO}),
    ("/v1/completions", {"prompt": "Hello."}),
    ("/v1/embeddings", {"input": "Hello."}),
    ("/v1/responses", {"input": "Hello."}),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 1}),
    ("/v1/messages/count_tokens", {"messages": HELLO}),
    ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ("/v1/score", {"text_1": "a", "text_2": "b"}),
    ("/tokenize", {"prompt": "Hello."}),
    ("/detokenize", {"tokens": [5]}),
]


def _post_raw(sluice: Any, path: str, content: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.post(sluice.url + path, content=content, headers=headers, timeout=60, verify=False)


@pytest.mark.parametrize(("path", "body"), GENERATING, ids=[path for path, _ in GENERATING])
def test_an_unknown_model(sluice: Any, path: str, body: dict[str, Any]) -> None:
    answer = sluice.post(path, {"model": "no-such-model", **body})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert "no-such-model" in error["message"]
    assert answer.json().get("type") == ("error" if "messages" in path else None)
    if "messages" not in path:
        assert (error["type"], error["code"], error["param"]) == (
            "invalid_request_error",
            "model_not_found",
            "model",
        )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b'{"model": ', "invalid_json"),
        (b'{"model": "x",}', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'["model"]', "invalid_type"),
        (b'"model"', "invalid_type"),
        (b'{"model": 3}', "invalid_type"),
        (b'{"model": "x", "stream": "yes"}', "invalid_type"),
    ],
)
def test_a_malformed_body(sluice: Any, content: bytes, code: str) -> None:
    answer = _post_raw(sluice, CHAT, content)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code
    assert error["message"]


def _told_as_by_the_engine(sluice: Any, fields: dict[str, Any]) -> None:
    body = {"model": sluice.model(), "messages": HELLO, "max_tokens": 1, **fields}
    worker = sluice.worker_urls()[0]
    direct = httpx.post(worker + CHAT, json=body, timeout=60, verify=False)
    relayed = sluice.post(CHAT, body)
    assert direct.status_code == 400
    assert relayed.status_code == direct.status_code
    assert relayed.content == direct.content
    assert relayed.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize(
    "fields", [{"max_tokens": "many"}, {"max_tokens": 10_000_000}, {"messages": "Hello."}, {"n": 0}], ids=str
)
def test_what_the_engine_refuses_is_told_as_the_engine_tells_it(sluice: Any, fields: dict[str, Any]) -> None:
    _told_as_by_the_engine(sluice, fields)


@pytest.mark.vllm
@pytest.mark.parametrize(
    "fields",
    [{"temperature": -3}, {"messages": []}, {"top_p": 7}, {"response_format": {"type": "no-such-format"}}],
    ids=str,
)
def test_what_only_vllm_refuses(vllm_sluice: Any, fields: dict[str, Any]) -> None:
    _told_as_by_the_engine(vllm_sluice, fields)


def test_the_client_raises_what_it_is_documented_to(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="token"):
        client.chat.completions.create(model=model, messages=HELLO, max_tokens=10_000_000)
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.chat.completions.create(model="no-such-model", messages=HELLO, stream=True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CHAT, 405), ("POST", "/v1/no-such-path", 404), ("POST", "/v1/models", 405)],
)
def test_a_wrong_method_or_path(sluice: Any, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, sluice.url + path, timeout=60, verify=False)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
