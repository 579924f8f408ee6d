"""Embeddings, rerank, score, classify and pooling: by the fake engine, which can do all at once; and what a
vLLM worker with a chat model says to them."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

DOCUMENTS = ["bread and butter", "the fox and the river", "an old lamp"]


@pytest.fixture(scope="module")
def pooling_client(fake_sluice: Any) -> Any:
    with openai.OpenAI(base_url=f"{fake_sluice.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(pooling_client: openai.OpenAI, form: Any) -> None:
    answer = pooling_client.embeddings.create(model="fake", input=DOCUMENTS, encoding_format=form)
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens > 0


def test_embeddings_as_the_client_asks_for_them(pooling_client: openai.OpenAI) -> None:
    """It asks for base64 and decodes to floats by itself."""
    answer = pooling_client.embeddings.create(model="fake", input="the fox", dimensions=16)
    vector = answer.data[0].embedding
    assert len(vector) == 16
    assert all(isinstance(value, float) for value in vector)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_rerank(fake_sluice: Any, path: str) -> None:
    body = {"model": "fake", "query": "which fox is at the river", "documents": DOCUMENTS, "top_n": 2}
    results = fake_sluice.post(path, body).raise_for_status().json()["results"]
    assert len(results) == 2
    assert results[0]["document"]["text"] == DOCUMENTS[1]


@pytest.mark.parametrize("path", ["/v1/score", "/score"])
def test_score(fake_sluice: Any, path: str) -> None:
    body = {"model": "fake", "text_1": "the fox", "text_2": DOCUMENTS}
    data = fake_sluice.post(path, body).raise_for_status().json()["data"]
    scores = [entry["score"] for entry in data]
    assert scores.index(max(scores)) == 1


@pytest.mark.parametrize("path", ["/classify", "/pooling"])
def test_classify_and_pooling(fake_sluice: Any, path: str) -> None:
    answer = fake_sluice.post(path, {"model": "fake", "input": DOCUMENTS}).raise_for_status().json()
    assert len(answer["data"]) == 3


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "the fox"}),
        ("/v1/rerank", {"query": "fox", "documents": DOCUMENTS}),
        ("/v1/score", {"text_1": "fox", "text_2": DOCUMENTS}),
        ("/classify", {"input": "the fox"}),
        ("/pooling", {"input": "the fox"}),
    ],
)
def test_a_chat_model_does_not_pool(vllm_sluice: Any, path: str, body: dict[str, Any]) -> None:
    """vLLM's own answer, whatever it is, comes through."""
    body = {"model": vllm_sluice.model(), **body}
    direct = httpx.post(vllm_sluice.worker_urls()[0] + path, json=body, timeout=60, verify=False)
    relayed = vllm_sluice.post(path, body)
    assert direct.status_code == relayed.status_code == 404
    assert relayed.content == direct.content
