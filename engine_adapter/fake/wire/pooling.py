"""Endpoints that pool instead of generating: embeddings, pooling, classification, scores, reranking.

An embedding is a normalised bag of hashed words, so that texts with common words are close: a score is a
cosine, and a rerank puts the document that shares the most words with the query first.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.tokens import Prompt
from engine_adapter.fake.wire import fields
from engine_adapter.fake.wire.errors import malformed
from engine_adapter.fake.wire.generation import Generation, Origin

LABELS = ("LABEL_0", "LABEL_1")
_WORD = re.compile(r"\w+")


def embed(text: str, dimensions: int) -> list[float]:
    """Unit vector of a text: each word adds ±1 to the component its hash picks."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
        vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(math.fsum(x * x for x in vector))
    if length == 0:
        vector[0] = length = 1.0
    return [x / length for x in vector]


def similarity(a: str, b: str) -> float:
    """Score of two texts, 0 to 1: their cosine, halved and shifted."""
    return 0.5 + 0.5 * math.fsum(x * y for x, y in zip(embed(a, 256), embed(b, 256), strict=True))


class PoolingRendering:
    """An answer that is one JSON document."""

    def __init__(self, document: Callable[[], Any]) -> None:
        self._document = document

    def preamble(self) -> bytes:
        """Pooling never streams."""
        return b""

    def step(self, index: int, cached: int) -> bytes:
        """Pooling never streams."""
        return b""

    def closing(self, cached: int) -> bytes:
        """Pooling never streams."""
        return b""

    def body(self, cached: int) -> bytes:
        """The document."""
        return orjson.dumps(self._document())


def _usage(prompts: Sequence[Prompt]) -> dict[str, Any]:
    tokens = sum(prompt.count for prompt in prompts)
    return {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


def _inputs(config: FakeEngineConfig, body: fields.Body) -> list[Prompt]:
    """The texts of a request with `input` or `messages`; raises ApiError."""
    if "input" in body:
        value = body["input"]
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            prompts = [fields.chat_prompt(value, generation=False)]
        else:
            prompts = fields.text_prompts(value, "input")
    else:
        if "messages" not in body:
            raise malformed("missing", "input", "Field required", dict(body))
        prompts = [fields.chat_prompt(fields.required(body, "messages", list), generation=False)]
    for prompt in prompts:
        fields.check_length(config, prompt)
    return prompts


def _generation(
    request_id: str, model: str, prompts: Sequence[Prompt], document: Callable[[], Any]
) -> Generation:
    return Generation(request_id, model, prompts, [], False, PoolingRendering(document))


def parse_embeddings(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand `/v1/embeddings`; raises ApiError."""
    prompts = _inputs(config, body)
    model = fields.served_model(config, body)
    dimensions = fields.optional(body, "dimensions", int, config.embedding_dimensions)
    encoding = fields.optional(body, "encoding_format", str, "float")
    if dimensions < 1 or encoding not in ("float", "base64"):
        raise malformed("literal_error", "encoding_format", "Input should be 'float' or 'base64'", encoding)
    request_id = f"embd-{origin.request_id}"

    def document() -> Any:
        vectors: list[Any] = [embed(prompt.text(), dimensions) for prompt in prompts]
        if encoding == "base64":
            vectors = [
                base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() for vector in vectors
            ]
        return {
            "id": request_id,
            "object": "list",
            "created": origin.created,
            "model": model.name,
            "data": [
                {"index": number, "object": "embedding", "embedding": vector}
                for number, vector in enumerate(vectors)
            ],
            "usage": _usage(prompts),
        }

    return _generation(request_id, model.name, prompts, document)


def parse_pooling(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand `/pooling`; raises ApiError."""
    prompts = _inputs(config, body)
    model = fields.served_model(config, body)
    request_id = f"pooling-{origin.request_id}"

    def document() -> Any:
        return {
            "id": request_id,
            "object": "list",
            "created": origin.created,
            "model": model.name,
            "data": [
                {
                    "index": number,
                    "object": "pooling",
                    "data": embed(prompt.text(), config.embedding_dimensions),
                }
                for number, prompt in enumerate(prompts)
            ],
            "usage": _usage(prompts),
        }

    return _generation(request_id, model.name, prompts, document)


def parse_classify(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand `/classify`; raises ApiError."""
    prompts = _inputs(config, body)
    model = fields.served_model(config, body)
    request_id = f"classify-{origin.request_id}"

    def document() -> Any:
        data = []
        for number, prompt in enumerate(prompts):
            share = (prompt.digest()[0] + 1) / 257
            probs = [share, 1 - share]
            label = LABELS[probs.index(max(probs))]
            data.append({"index": number, "label": label, "probs": probs, "num_classes": len(probs)})
        return {
            "id": request_id,
            "object": "list",
            "created": origin.created,
            "model": model.name,
            "data": data,
            "usage": _usage(prompts),
        }

    return _generation(request_id, model.name, prompts, document)


def parse_score(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand `/score`, in any of its spellings; raises ApiError."""
    for left, right in (
        ("queries", "documents"),
        ("queries", "items"),
        ("data_1", "data_2"),
        ("text_1", "text_2"),
    ):
        if left in body and right in body:
            first, second = _texts(body[left], left), _texts(body[right], right)
            break
    else:
        raise malformed("missing", "queries", "Field required", dict(body))
    if len(first) == 1:
        first = first * len(second)
    if len(first) != len(second):
        raise malformed("value_error", left, "Value error, Input lengths must be either 1:1, 1:N or N:N")
    model = fields.served_model(config, body)
    prompts = [Prompt.from_text(f"{a}\n{b}") for a, b in zip(first, second, strict=True)]
    request_id = f"score-{origin.request_id}"

    def document() -> Any:
        return {
            "id": request_id,
            "object": "list",
            "created": origin.created,
            "model": model.name,
            "data": [
                {"index": number, "object": "score", "score": similarity(a, b)}
                for number, (a, b) in enumerate(zip(first, second, strict=True))
            ],
            "usage": _usage(prompts),
        }

    return _generation(request_id, model.name, prompts, document)


def parse_rerank(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand `/rerank`; raises ApiError."""
    if "query" not in body or "documents" not in body:
        missing = "query" if "query" not in body else "documents"
        raise malformed("missing", missing, "Field required", dict(body))
    (query, *_) = _texts(body["query"], "query")
    documents = _texts(body["documents"], "documents")
    top_n = fields.optional(body, "top_n", int, 0) or len(documents)
    model = fields.served_model(config, body)
    prompts = [Prompt.from_text(f"{query}\n{document}") for document in documents]
    request_id = f"score-{origin.request_id}"

    def ranking() -> Any:
        results: list[dict[str, Any]] = [
            {
                "index": number,
                "document": {"text": text, "multi_modal": None},
                "relevance_score": similarity(query, text),
            }
            for number, text in enumerate(documents)
        ]
        results.sort(key=lambda result: result["relevance_score"], reverse=True)
        tokens = sum(prompt.count for prompt in prompts)
        return {
            "id": request_id,
            "model": model.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "results": results[:top_n],
        }

    return _generation(request_id, model.name, prompts, ranking)


def _texts(value: Any, name: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise malformed("string_type", f"{name}.str", "Input should be a valid string", value)
    return texts
