"""The responses API through OpenAI's Python client."""

from __future__ import annotations

import json
from typing import Any

import openai


def test_a_response(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(
        model=model, instructions="Be brief.", input="Who lives in the river?", max_output_tokens=8
    )
    assert answer.object == "response"
    assert answer.status in ("completed", "incomplete")
    assert answer.output_text
    assert answer.usage is not None
    assert 0 < answer.usage.output_tokens <= 8


def test_a_conversation_as_input(client: openai.OpenAI, model: str) -> None:
    turns: Any = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello to you."},
        {"role": "user", "content": "Who lives in the river?"},
    ]
    short = client.responses.create(model=model, input="Hello.", max_output_tokens=2)
    answer = client.responses.create(model=model, input=turns, max_output_tokens=2)
    assert answer.usage is not None
    assert short.usage is not None
    assert answer.usage.input_tokens > short.usage.input_tokens


def test_a_stream(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "input": "Who lives in the river?", "max_output_tokens": 8}
    events = list(client.responses.create(**fields, temperature=0, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    assert text == client.responses.create(**fields, temperature=0).output_text


def test_structured_output(client: openai.OpenAI, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"rain": {"type": "boolean"}},
        "required": ["rain"],
        "additionalProperties": False,
    }
    wanted: Any = {"format": {"type": "json_schema", "name": "sky", "schema": schema, "strict": True}}
    answer = client.responses.create(model=model, input="Does it rain?", text=wanted, max_output_tokens=200)
    assert json.loads(answer.output_text)["rain"] in (True, False)
