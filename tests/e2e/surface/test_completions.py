"""Text completions through OpenAI's Python client."""

from __future__ import annotations

from typing import Any

import openai

PROMPT = "The fox went down to the river"


def test_a_completion(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "prompt": PROMPT, "max_tokens": 10, "temperature": 0}
    whole = client.completions.create(**fields)
    stream = client.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_several_prompts(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "prompt": [PROMPT, "An otter"], "max_tokens": 3}
    answer = client.completions.create(**fields)
    assert [choice.index for choice in answer.choices] == [0, 1]
    streamed = {
        choice.index for chunk in client.completions.create(**fields, stream=True) for choice in chunk.choices
    }
    assert streamed == {0, 1}


def test_a_prompt_of_token_ids(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=[5, 6, 7, 8], max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 4


def test_echo(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=3, echo=True)
    assert answer.choices[0].text.startswith(PROMPT)
    assert answer.choices[0].text != PROMPT


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=3, logprobs=2, extra_body={"ignore_eos": True}
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.top_logprobs is not None
    assert [len(rivals) >= 2 for rivals in logprobs.top_logprobs] == [True] * 3


def test_stop(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "prompt": PROMPT, "max_tokens": 16, "temperature": 0}
    text = client.completions.create(**fields).choices[0].text
    stop = text[len(text) // 2 :][:2]
    choice = client.completions.create(**fields, stop=stop).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.text == text[: text.index(stop)]
