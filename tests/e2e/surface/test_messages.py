"""Anthropic's messages API through Anthropic's Python client."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

QUESTION: list[Any] = [{"role": "user", "content": "Who lives in the river?"}]
TOOL: Any = {
    "name": "get_weather",
    "description": "Weather.",
    "strict": True,
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def test_a_message(anthropic_client: anthropic.Anthropic, model: str) -> None:
    message = anthropic_client.messages.create(
        model=model, system="Be brief.", messages=QUESTION, max_tokens=6
    )
    assert message.role == "assistant"
    assert message.model == model
    assert message.content[0].type == "text"
    assert message.content[0].text
    assert message.stop_reason in ("max_tokens", "end_turn")
    assert message.usage.input_tokens > 0
    assert 0 < message.usage.output_tokens <= 6


def test_a_stream(anthropic_client: anthropic.Anthropic, model: str) -> None:
    with anthropic_client.messages.stream(model=model, messages=QUESTION, max_tokens=8) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    assert final.content[0].type == "text"
    assert final.content[0].text == text
    assert final.stop_reason in ("max_tokens", "end_turn")
    assert 0 < final.usage.output_tokens <= 8


def test_counted_tokens_are_those_that_are_used(anthropic_client: anthropic.Anthropic, model: str) -> None:
    counted = anthropic_client.messages.count_tokens(model=model, messages=QUESTION)
    used = anthropic_client.messages.create(model=model, messages=QUESTION, max_tokens=1).usage
    assert counted.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_a_forced_tool(anthropic_client: anthropic.Anthropic, model: str) -> None:
    message = anthropic_client.messages.create(
        model=model,
        messages=QUESTION,
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather"},
        max_tokens=200,
    )
    if message.stop_reason == "max_tokens":
        # A tiny model may spend its whole answer on white space; this API has no way to forbid it.
        assert model != "fake"
        assert "get_weather" in str(message.content)
        return
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["get_weather"]
    assert calls[0].input["city"] in ("Paris", "Oslo")
    assert message.stop_reason == "tool_use"


def test_an_unknown_model(anthropic_client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        anthropic_client.messages.create(model="no-such-model", messages=QUESTION, max_tokens=1)
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    assert "no-such-model" in body["error"]["message"]


def test_an_error_of_the_engine(anthropic_client: anthropic.Anthropic, model: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        anthropic_client.messages.create(model=model, messages=QUESTION, max_tokens=-1)
    assert "max_tokens" in str(caught.value)
