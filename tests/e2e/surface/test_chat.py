"""Chat completions through OpenAI's Python client: what vLLM can do, it can do through the gateway."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

QUESTION: list[Any] = [{"role": "user", "content": "Tell me about the fox and the river."}]
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER_TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather.", "parameters": WEATHER, "strict": True},
}
FORCED: Any = {"type": "function", "function": {"name": "get_weather"}}


class Weather(BaseModel):
    """What `test_structured_output_is_parsed_by_the_client` asks for."""

    city: Literal["Paris", "Oslo"]


def test_an_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.model == model
    assert answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "messages": QUESTION, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**fields)
    text, finish_reasons, ids = "", [], set()
    for chunk in client.chat.completions.create(**fields, stream=True):
        ids.add(chunk.id)
        assert chunk.usage is None
        assert chunk.object == "chat.completion.chunk"
        text += chunk.choices[0].delta.content or ""
        if chunk.choices[0].finish_reason:
            finish_reasons.append(chunk.choices[0].finish_reason)
    assert text == whole.choices[0].message.content
    assert finish_reasons == [whole.choices[0].finish_reason]
    assert len(ids) == 1


def test_a_stream_reports_usage_if_asked(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        max_tokens=6,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    chunks = list(stream)
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 6


def test_the_stream_helper_of_the_client(client: openai.OpenAI, model: str) -> None:
    either = {"structured_outputs": {"choice": ["rain", "snow"]}}
    with client.chat.completions.stream(model=model, messages=QUESTION, extra_body=either) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text in ("rain", "snow")
    assert final.choices[0].message.content == text


def test_seed(client: openai.OpenAI, model: str) -> None:
    def text(seed: int) -> str:
        answer = client.chat.completions.create(
            model=model,
            messages=QUESTION,
            max_tokens=16,
            temperature=2,
            seed=seed,
            extra_body={"ignore_eos": True},
        )
        return answer.choices[0].message.content or ""

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(4)}) > 1


def test_n(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=4, n=3, seed=1)
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2]
    finished = set()
    for chunk in client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=4, n=2, seed=1, stream=True
    ):
        finished |= {choice.index for choice in chunk.choices if choice.finish_reason}
    assert finished == {0, 1}


def test_stop(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    text = client.chat.completions.create(**fields).choices[0].message.content or ""
    stop = text[len(text) // 2 :][:2]
    assert stop
    choice = client.chat.completions.create(**fields, stop=[stop]).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content == text[: text.index(stop)]
    assert (choice.model_extra or {})["stop_reason"] == stop


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "messages": QUESTION, "max_tokens": 4, "logprobs": True}
    fields |= {"top_logprobs": 2, "extra_body": {"ignore_eos": True}}
    logprobs = client.chat.completions.create(**fields).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 4
    for token in logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 2
    streamed = 0
    for chunk in client.chat.completions.create(**fields, stream=True):
        if chunk.choices[0].logprobs is not None:
            streamed += len(chunk.choices[0].logprobs.content or [])
    assert streamed == 4


def test_a_forced_tool(client: openai.OpenAI, model: str, no_blanks: dict[str, int]) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        tools=[WEATHER_TOOL],
        tool_choice=FORCED,
        max_tokens=150,
        seed=1,
        logit_bias=no_blanks,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"] in ("Paris", "Oslo")


def test_a_forced_tool_in_a_stream(client: openai.OpenAI, model: str, no_blanks: dict[str, int]) -> None:
    with client.chat.completions.stream(
        model=model,
        messages=QUESTION,
        tools=[WEATHER_TOOL],
        tool_choice=FORCED,
        max_tokens=150,
        seed=1,
        logit_bias=no_blanks,
    ) as stream:
        stream.until_done()
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls] == ["get_weather"]
    assert json.loads(calls[0].function.arguments)["city"] in ("Paris", "Oslo")


def test_structured_output_is_parsed_by_the_client(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(
        model=model, messages=QUESTION, response_format=Weather, max_tokens=200, seed=1
    )
    weather = answer.choices[0].message.parsed
    assert weather is not None
    assert weather.city in ("Paris", "Oslo")


def test_fields_that_only_the_engine_knows(client: openai.OpenAI, model: str) -> None:
    """`ignore_eos` and `min_tokens` are vLLM's own, and so is `structured_outputs`."""
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        max_tokens=9,
        extra_body={"ignore_eos": True, "min_tokens": 9},
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 9
    chosen = client.chat.completions.create(
        model=model, messages=QUESTION, extra_body={"structured_outputs": {"choice": ["rain", "snow"]}}
    )
    assert chosen.choices[0].message.content in ("rain", "snow")


@pytest.mark.vllm
def test_fields_of_answers_that_only_the_engine_knows(vllm_sluice: Any) -> None:
    body = {"model": vllm_sluice.model(), "messages": QUESTION, "max_tokens": 3, "return_token_ids": True}
    answer = vllm_sluice.post("/v1/chat/completions", body).json()
    assert len(answer["choices"][0]["token_ids"]) == 3
    assert len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]


def test_a_repeated_prompt_is_found_in_the_cache(client: openai.OpenAI, model: str) -> None:
    story = "Once upon a time a fox lived beside the river and met an otter. " * 12
    fields: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": story}]}
    client.chat.completions.create(**fields, max_tokens=1)
    usage = client.chat.completions.create(**fields, max_tokens=1).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_the_only_model_need_not_be_named(sluice: Any, model: str) -> None:
    answer = sluice.post("/v1/chat/completions", {"messages": QUESTION, "max_tokens": 2})
    assert answer.status_code == 200
    assert answer.json()["model"] == model
