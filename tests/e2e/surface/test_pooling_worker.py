"""A real vLLM worker that pools, and what it computes: its vectors are the model's last hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from engine_adapter.demo.family import folder
from engine_adapter.demo.tokenizer import load_tokenizer

pytestmark = pytest.mark.vllm

QUERY = "Where does Ada live?"
DOCUMENTS = ["Ben works as a baker.", "Ada lives in Dunham.", "The lamp is made of brass."]


@pytest.fixture(scope="module")
def pooling_sluice(start_sluice: Any) -> Iterator[Any]:
    sluice = start_sluice("--model", str(folder("teller")), "--", "--runner", "pooling", engine="vllm")
    yield sluice
    sluice.stop()


@pytest.fixture(scope="module")
def vectors(pooling_sluice: Any) -> list[list[float]]:
    with openai.OpenAI(
        base_url=f"{pooling_sluice.url}/v1", api_key="unused", max_retries=0, timeout=300
    ) as client:
        answer = client.embeddings.create(model="teller", input=[QUERY, *DOCUMENTS])
    assert answer.usage.prompt_tokens > len(DOCUMENTS)
    return [entry.embedding for entry in answer.data]


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_are_those_of_the_model(vectors: list[list[float]]) -> None:
    """The engine and the plain decoder of the demo package read the same weights to the same end."""
    torch = pytest.importorskip("torch")
    from engine_adapter.demo.checkpoint import load_model

    model, tokenizer = load_model(folder("teller")), load_tokenizer(folder("teller"))
    for text, vector in zip([QUERY, *DOCUMENTS], vectors, strict=True):
        with torch.inference_mode():
            hidden, _ = model.hidden(torch.tensor([tokenizer.encode(text).ids]))
        ours = torch.nn.functional.normalize(hidden[0, -1], dim=0).tolist()
        assert _dot(ours, vector) > 0.995


def test_scores_are_the_cosines_of_the_vectors(pooling_sluice: Any, vectors: list[list[float]]) -> None:
    body = {"model": "teller", "text_1": QUERY, "text_2": DOCUMENTS}
    data = pooling_sluice.post("/v1/score", body).raise_for_status().json()["data"]
    assert [entry["index"] for entry in data] == [0, 1, 2]
    for entry, vector in zip(data, vectors[1:], strict=True):
        assert entry["score"] == pytest.approx(_dot(vectors[0], vector), abs=0.02)


def test_rerank_sorts_by_score(pooling_sluice: Any, vectors: list[list[float]]) -> None:
    body = {"model": "teller", "query": QUERY, "documents": DOCUMENTS}
    results = pooling_sluice.post("/v1/rerank", body).raise_for_status().json()["results"]
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert {result["index"] for result in results} == {0, 1, 2}
    for result in results:
        assert result["document"]["text"] == DOCUMENTS[result["index"]]
        assert result["relevance_score"] == pytest.approx(
            _dot(vectors[0], vectors[1 + result["index"]]), abs=0.02
        )


def test_a_pooling_model_does_not_chat(pooling_sluice: Any) -> None:
    """vLLM's own answer comes through."""
    body = {"model": "teller", "messages": [{"role": "user", "content": QUERY}]}
    (worker,) = pooling_sluice.worker_urls()
    direct = httpx.post(f"{worker}/v1/chat/completions", json=body, timeout=60, verify=False)
    relayed = pooling_sluice.post("/v1/chat/completions", body)
    assert direct.status_code == relayed.status_code == 404
    assert relayed.content == direct.content
