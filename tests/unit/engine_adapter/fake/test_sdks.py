"""The official SDKs understand what the fake engine says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from engine_adapter.fake import FakeEngine

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

pytestmark = pytest.mark.slow  # importing the SDKs is

MESSAGES: list[Any] = [{"role": "user", "content": "Tell me about the fox."}]


@pytest.fixture
async def openai(engine: FakeEngine) -> AsyncIterator[AsyncOpenAI]:
    sdk = pytest.importorskip("openai")
    async with sdk.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic(engine: FakeEngine) -> AsyncIterator[AsyncAnthropic]:
    sdk = pytest.importorskip("anthropic")
    async with sdk.AsyncAnthropic(base_url=engine.url, api_key="none", max_retries=0) as client:
        yield client


async def test_openai_chat(openai: AsyncOpenAI) -> None:
    whole = await openai.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=8)
    stream = await openai.chat.completions.create(
        model="fake", messages=MESSAGES, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage
    assert text == whole.choices[0].message.content
    assert usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens == 8


async def test_openai_completions_and_embeddings(openai: AsyncOpenAI) -> None:
    whole = await openai.completions.create(model="fake", prompt="the fox", max_tokens=8)
    stream = await openai.completions.create(model="fake", prompt="the fox", max_tokens=8, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text
    # The SDK asks for base64 and decodes it; floats must come out the same to 32 bits.
    decoded = await openai.embeddings.create(model="fake", input="the fox")
    plain = await openai.embeddings.create(model="fake", input="the fox", encoding_format="float")
    assert decoded.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


async def test_openai_responses(openai: AsyncOpenAI) -> None:
    whole = await openai.responses.create(model="fake", input="the fox", max_output_tokens=8)
    async with openai.responses.stream(model="fake", input="the fox", max_output_tokens=8) as stream:
        text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        final = await stream.get_final_response()
    assert text == final.output_text == whole.output_text


async def test_openai_models_and_errors(openai: AsyncOpenAI) -> None:
    import openai as sdk

    assert [model.id async for model in openai.models.list()] == ["fake"]
    assert (await openai.models.retrieve("fake")).owned_by == "vllm"
    with pytest.raises(sdk.NotFoundError, match="does not exist"):
        await openai.chat.completions.create(model="none", messages=MESSAGES)
    with pytest.raises(sdk.RateLimitError):
        await openai.chat.completions.create(
            model="fake", messages=MESSAGES, extra_headers={"x-fake-fault": "status; status=429"}
        )


async def test_openai_sees_a_cut_stream_as_an_error(openai: AsyncOpenAI) -> None:
    import openai as sdk

    stream = await openai.chat.completions.create(
        model="fake",
        messages=MESSAGES,
        stream=True,
        extra_headers={"x-fake-fault": "cut; point=mid-chunk; after_events=3; reset=true"},
    )
    with pytest.raises(sdk.APIConnectionError):
        async for _ in stream:
            pass


async def test_anthropic_messages(anthropic: AsyncAnthropic) -> None:
    whole = await anthropic.messages.create(model="fake", max_tokens=8, messages=MESSAGES)
    async with anthropic.messages.stream(model="fake", max_tokens=8, messages=MESSAGES) as stream:
        text = "".join([part async for part in stream.text_stream])
        final = await stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason == "max_tokens"
    counted = await anthropic.messages.count_tokens(model="fake", messages=MESSAGES)
    assert counted.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
