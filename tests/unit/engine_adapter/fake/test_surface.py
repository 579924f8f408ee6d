"""Every path answers, in the form vLLM gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from engine_adapter.fake import FakeEngine, ServedModel

StartEngine = Callable[..., Awaitable[FakeEngine]]


@pytest.mark.parametrize("path", ["/health", "/ping"])
async def test_health_is_an_empty_200(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_small_documents(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"version": "0.32.0"}
    assert (await client.get("/load")).json() == {"server_load": 0}
    assert (await client.get("/kv_event_sources")).json() == {}
    assert (await client.post("/reset_prefix_cache")).json() == {"success": True}


async def test_models_are_listed_and_retrieved(start_engine: StartEngine) -> None:
    models = (
        ServedModel("base", root="/models/base"),
        ServedModel("org/alias"),
        ServedModel("ad", "/ad", "base"),
    )
    engine = await start_engine(models=models, max_model_len=4096)
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        listed = (await client.get("/v1/models")).json()
        one = (await client.get("/v1/models/org/alias")).json()
        missing = await client.get("/v1/models/none")
    shown = [(m["id"], m["root"], m["parent"], m["max_model_len"]) for m in listed["data"]]
    assert shown == [
        ("base", "/models/base", None, 4096),
        ("org/alias", "org/alias", None, 4096),
        ("ad", "/ad", "base", None),
    ]
    assert one == listed["data"][1]
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "NotFoundError"


async def test_tokenizing_agrees_with_usage_and_detokenizing(client: httpx.AsyncClient) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "naïve 日本"}]
    chat = (await client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 7})).json()
    tokens = (await client.post("/tokenize", json={"messages": messages})).json()
    counted = (
        await client.post("/v1/messages/count_tokens", json={"model": "fake", "messages": messages})
    ).json()
    assert (
        tokens["count"] == len(tokens["tokens"]) == chat["usage"]["prompt_tokens"] == counted["input_tokens"]
    )
    text = chat["choices"][0]["message"]["content"]
    answer = (await client.post("/tokenize", json={"prompt": text, "return_token_strs": True})).json()
    assert answer["count"] == chat["usage"]["completion_tokens"] == 7
    assert "".join(answer["token_strs"]) == text
    back = (await client.post("/detokenize", json={"tokens": answer["tokens"]})).json()
    assert back == {"prompt": text}


async def test_embeddings_are_unit_vectors_of_the_asked_size(client: httpx.AsyncClient) -> None:
    answer = (
        await client.post("/v1/embeddings", json={"input": ["a fox", "a cow"], "dimensions": 16})
    ).json()
    vectors = [item["embedding"] for item in answer["data"]]
    assert [len(vector) for vector in vectors] == [16, 16]
    assert [sum(x * x for x in vector) for vector in vectors] == pytest.approx([1, 1])
    assert vectors[0] != vectors[1]
    assert answer["usage"]["total_tokens"] == 4


async def test_reranking_puts_the_document_with_common_words_first(client: httpx.AsyncClient) -> None:
    documents = ["cows graze", "the red fox ran", "rain falls"]
    body = {"query": "where is the red fox", "documents": documents, "top_n": 2}
    answers = [
        (await client.post(path, json=body)).json() for path in ("/rerank", "/v1/rerank", "/v2/rerank")
    ]
    assert [result["index"] for result in answers[0]["results"]][0] == 1
    assert len(answers[0]["results"]) == 2
    assert answers[0]["results"][0]["document"] == {"text": "the red fox ran", "multi_modal": None}
    assert all(answer["results"] == answers[0]["results"] for answer in answers)


async def test_scores_pair_one_with_many(client: httpx.AsyncClient) -> None:
    one = (await client.post("/score", json={"text_1": "fox", "text_2": ["fox", "cow"]})).json()
    other = (await client.post("/v1/score", json={"queries": "fox", "documents": ["fox", "cow"]})).json()
    assert one["data"] == other["data"]
    assert one["data"][0]["score"] == pytest.approx(1.0)
    assert one["data"][1]["score"] < 1.0


async def test_pooling_and_classifying(client: httpx.AsyncClient) -> None:
    pooled = (await client.post("/pooling", json={"input": "fox"})).json()
    assert len(pooled["data"][0]["data"]) == 64
    classified = (await client.post("/classify", json={"input": ["fox", "cow"]})).json()
    for item in classified["data"]:
        assert sum(item["probs"]) == pytest.approx(1.0)
        assert item["label"] == f"LABEL_{item['probs'].index(max(item['probs']))}"


ERRORS: list[tuple[str, str, Any, int, str, str | None]] = [
    ("POST", "/v1/chat/completions", {}, 400, "Bad Request", "body.messages"),
    ("POST", "/v1/chat/completions", {"messages": "x"}, 400, "Bad Request", "body.messages"),
    ("POST", "/v1/chat/completions", {"messages": [{}]}, 400, "Bad Request", "body.messages.0"),
    ("POST", "/v1/chat/completions", {"messages": [], "n": "two"}, 400, "Bad Request", "body.n"),
    ("POST", "/v1/chat/completions", {"messages": [], "n": True}, 400, "Bad Request", "body.n"),
    ("POST", "/v1/chat/completions", {"messages": [], "max_tokens": 0}, 400, "BadRequestError", "max_tokens"),
    ("POST", "/v1/chat/completions", {"messages": [], "tools": []}, 400, "Bad Request", "body.tools"),
    ("POST", "/v1/chat/completions", {"messages": [], "model": "x"}, 404, "NotFoundError", "model"),
    ("POST", "/v1/chat/completions", [1], 400, "Bad Request", "body"),
    ("POST", "/v1/completions", {}, 400, "Bad Request", "body.prompt"),
    ("POST", "/v1/completions", {"prompt": "a", "stream_options": {"x": 1}}, 400, "Bad Request",
     "body.stream_options"),
    ("POST", "/v1/completions", {"prompt": "a", "cache_salt": ""}, 400, "BadRequestError", "cache_salt"),
    ("POST", "/v1/embeddings", {"input": 3}, 400, "Bad Request", "body.input.str"),
    ("POST", "/v1/responses", {}, 400, "Bad Request", "body.input"),
    ("POST", "/v1/messages", {"model": "fake", "messages": []}, 400, "Bad Request", "body.max_tokens"),
    ("POST", "/detokenize", {"tokens": [-1]}, 400, "Bad Request", "body.tokens.0"),
    ("GET", "/v1/responses/resp_1", None, 404, "invalid_request_error", "response_id"),
    ("GET", "/nowhere", None, 404, "Not Found", None),
    ("GET", "/v1/chat/completions", None, 405, "Method Not Allowed", None),
    ("DELETE", "/v1/models", None, 405, "Method Not Allowed", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "kind", "param"), ERRORS)
async def test_errors_have_openais_form(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, kind: str, param: str | None
) -> None:
    answer = await client.request(method, path, json=body)
    error = answer.json()["error"]
    assert answer.status_code == error["code"] == status
    assert (error["type"], error["param"]) == (kind, param)
    assert error["message"]


async def test_bodies_that_are_not_json(client: httpx.AsyncClient) -> None:
    broken = await client.post(
        "/v1/chat/completions", content=b'{"messages": [', headers={"content-type": "application/json"}
    )
    assert broken.status_code == 400
    assert "json_invalid" in broken.json()["error"]["message"]
    plain = await client.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 400
    assert "Unsupported Media Type" in plain.json()["error"]["message"]


async def test_messages_errors_have_anthropics_form(client: httpx.AsyncClient) -> None:
    body = {"model": "x", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]}
    answer = await client.post("/v1/messages", json=body)
    assert answer.status_code == 404
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "NotFoundError"


async def test_a_prompt_that_does_not_fit_is_refused(start_engine: StartEngine) -> None:
    engine = await start_engine(max_model_len=64)
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        long = await client.post("/v1/completions", json={"prompt": "x" * 400, "max_tokens": 1})
        wide = await client.post("/v1/completions", json={"prompt": "x" * 40, "max_tokens": 60})
        open_ended = await client.post("/v1/chat/completions", json={"messages": [], "ignore_eos": True})
    for answer in (long, wide):
        assert answer.status_code == 400
        assert "maximum context length is 64 tokens" in answer.json()["error"]["message"]
    assert open_ended.json()["usage"]["total_tokens"] == 64


async def test_requests_are_kept_for_inspection(start_engine: StartEngine) -> None:
    engine = await start_engine(record_requests=2)
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        for number in range(3):
            await client.post(
                f"/v1/completions?n={number}", json={"prompt": "a"}, headers={"traceparent": "00-x"}
            )
        shown = (await client.get("/fake/requests")).json()
    assert [request.target for request in engine.requests][0] == "/v1/completions?n=2"
    assert engine.requests[0].header("Traceparent") == "00-x"
    assert engine.requests[0].header("tracestate") is None
    assert engine.requests[0].body == b'{"prompt":"a"}'
    assert ["traceparent", "00-x"] in shown[0]["headers"]


async def test_answers_do_not_depend_on_the_engine_or_the_time(start_engine: StartEngine) -> None:
    engines: list[FakeEngine] = [await start_engine(), await start_engine(), await start_engine(seed=1)]
    texts = []
    for engine in engines:
        async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
            for _ in range(2):
                answer = await client.post("/v1/completions", json={"prompt": "the fox", "max_tokens": 12})
                texts.append(answer.json()["choices"][0]["text"])
    assert texts[0] == texts[1] == texts[2] == texts[3]
    assert texts[4] == texts[5] != texts[0]
