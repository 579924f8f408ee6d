"""Whatever JSON a client sends, it gets an answer or an ApiError, never a crash."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_adapter.fake import FakeEngine, FakeEngineConfig
from engine_adapter.fake.front import GENERATORS
from engine_adapter.fake.wire import messages, tokenize
from engine_adapter.fake.wire.errors import ApiError
from engine_adapter.fake.wire.generation import Generation, Origin

CONFIG = FakeEngineConfig(max_model_len=2000)

SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.floats(0, 2) | st.text(max_size=8)
WORDS = st.sampled_from(
    [
        "user",
        "system",
        "text",
        "type",
        "role",
        "content",
        "function",
        "name",
        "parameters",
        "object",
        "string",
        "required",
        "auto",
        "any",
        "tool",
        "message",
        "input_text",
        "json_schema",
        "schema",
        "properties",
        "items",
        "enum",
        "anyOf",
        "$ref",
        "#/x",
        "pattern",
    ]
)
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": WORDS, "content": JSON}), max_size=3)
TOOLS = st.lists(st.fixed_dictionaries({"type": WORDS, "name": WORDS, "function": JSON}), max_size=2)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.just("fake"),
    "messages": MESSAGES | JSON,
    "input": st.text(max_size=20) | MESSAGES | JSON,
    "prompt": st.text(max_size=20) | st.lists(st.integers(0, 2**40), max_size=5) | JSON,
    "tools": TOOLS | JSON,
    "max_tokens": st.integers(1, 30) | JSON,
}
OTHERS = [
    "tool_choice",
    "response_format",
    "structured_outputs",
    "stream",
    "stream_options",
    "n",
    "stop",
    "logprobs",
    "top_logprobs",
    "seed",
    "system",
    "instructions",
    "text",
    "output_config",
    "query",
    "documents",
    "text_1",
    "text_2",
    "queries",
    "items",
    "tokens",
    "dimensions",
    "encoding_format",
    "cache_salt",
    "echo",
    "min_tokens",
    "ignore_eos",
    "return_token_ids",
    "temperature",
    "metadata",
]
BODIES = st.fixed_dictionaries({}, optional=FIELDS | dict.fromkeys(OTHERS, JSON))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(GENERATORS)), BODIES)
def test_generating_endpoints(path: str, body: dict[str, Any]) -> None:
    body = orjson.loads(orjson.dumps(body))
    try:
        generation = GENERATORS[path](CONFIG, body, Origin("id", 0))
    except ApiError as error:
        status = error.status
    else:
        status = 200
        _check_rendering(generation)
    assert status < 500


def _check_rendering(generation: Generation) -> None:
    rendering = generation.rendering
    if not generation.streaming:
        assert isinstance(orjson.loads(rendering.body(0)), dict)
        return
    stream = rendering.preamble()
    stream += b"".join(rendering.step(index, 0) for index in range(generation.steps)) + rendering.closing(0)
    for block in stream.split(b"\n\n")[:-1]:
        data = block.rpartition(b"data: ")[2]
        assert data == b"[DONE]" or isinstance(orjson.loads(data), dict)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([tokenize.tokenize, tokenize.detokenize, messages.count_tokens]), BODIES)
def test_documents(render: Any, body: dict[str, Any]) -> None:
    body = orjson.loads(orjson.dumps(body))
    try:
        document = orjson.loads(render(CONFIG, body))
    except ApiError as error:
        document = {"status": error.status}
    assert isinstance(document, dict)
    assert document.get("status", 400) < 500


async def test_a_bug_is_a_500_and_a_log_entry(
    engine: FakeEngine,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setitem(GENERATORS, "/v1/completions", broken)
    with caplog.at_level(logging.ERROR):
        answer = await client.post("/v1/completions", json={"prompt": "a"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "InternalServerError"
    assert "a bug" in caplog.text
    assert (await client.get("/health")).status_code == 200
