"""Chat, completions, responses and messages: whole answers and streams say the same."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from engine_adapter.fake import MIXED, FakeEngine

StartEngine = Callable[..., Awaitable[FakeEngine]]
Sse = Callable[[bytes | str], list[tuple[str | None, Any]]]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
                "required": ["city", "days"],
            },
        },
    }
]
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


async def stream(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], sse: Sse
) -> list[tuple[str | None, Any]]:
    answer = await client.post(path, json=body | {"stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return sse(answer.content)


@pytest.fixture(params=["words", "mixed"])
async def speaker(request: pytest.FixtureRequest, start_engine: StartEngine) -> httpx.AsyncClient:
    """A client of an engine that speaks plain words, or what is hard to escape."""
    engine = await (start_engine() if request.param == "words" else start_engine(vocabulary=MIXED))
    return httpx.AsyncClient(base_url=engine.url, verify=False)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"n": 3},
        {"logprobs": True, "top_logprobs": 2},
        {"return_token_ids": True},
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    ],
)
async def test_a_chat_stream_adds_up_to_the_whole_answer(
    speaker: httpx.AsyncClient, chat_body: dict[str, Any], sse: Sse, extra: dict[str, Any]
) -> None:
    body = chat_body | extra
    whole_body = {key: value for key, value in body.items() if key != "stream_options"}
    whole = (await speaker.post("/v1/chat/completions", json=whole_body)).json()
    *chunks, done = await stream(speaker, "/v1/chat/completions", body, sse)
    assert done == (None, "[DONE]")
    texts = [""] * body.get("n", 1)
    reasons: list[str | None] = [None] * len(texts)
    logprobs: list[Any] = []
    for _, chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
            reasons[choice["index"]] = choice["finish_reason"] or reasons[choice["index"]]
            logprobs += (choice["logprobs"] or {"content": []})["content"]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert reasons == [choice["finish_reason"] for choice in whole["choices"]]
    if "logprobs" in body:
        assert logprobs == whole["choices"][0]["logprobs"]["content"]
        assert "".join(entry["token"] for entry in logprobs) == texts[0]
        assert [len(entry["top_logprobs"]) for entry in logprobs] == [2] * 6
    if "stream_options" in body:
        usage = chunks[-1][1]["usage"]
        assert usage == {
            "prompt_tokens": whole["usage"]["prompt_tokens"],
            "total_tokens": whole["usage"]["total_tokens"],
            "completion_tokens": whole["usage"]["completion_tokens"],
            "prompt_tokens_details": {"cached_tokens": 0},
        }
    if "response_format" in body:
        assert orjson.loads(texts[0]) == {"ok": True}
    await speaker.aclose()


async def test_templates_and_dumped_chunks_are_the_same_bytes(
    engine: FakeEngine, client: httpx.AsyncClient, chat_body: dict[str, Any]
) -> None:
    """A piece outside the vocabulary's table is dumped; nothing else about the stream may change."""
    headers = {"x-request-id": "same"}
    body = chat_body | {"stream": True}
    templated = (await client.post("/v1/chat/completions", json=body, headers=headers)).content
    completed = (
        await client.post("/v1/completions", json={"prompt": "a", "stream": True}, headers=headers)
    ).content
    escaped = engine.config.vocabulary.escaped
    known = copy.copy(escaped)
    escaped.clear()
    try:
        dumped = (await client.post("/v1/chat/completions", json=body, headers=headers)).content
        also = (
            await client.post("/v1/completions", json={"prompt": "a", "stream": True}, headers=headers)
        ).content
    finally:
        escaped.update(known)
    assert _without_time(templated) == _without_time(dumped)
    assert _without_time(completed) == _without_time(also)


def _without_time(stream: bytes) -> list[bytes]:
    import re

    return re.sub(rb'"created":\d+', b"", stream).split(b"\n\n")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look_up"}}])
async def test_a_forced_tool_is_called_with_fitting_arguments(
    client: httpx.AsyncClient, chat_body: dict[str, Any], sse: Sse, choice: Any
) -> None:
    body = chat_body | {"tools": TOOLS, "tool_choice": choice, "max_tokens": 60}
    whole = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]
    (call,) = whole["message"]["tool_calls"]
    arguments = orjson.loads(call["function"]["arguments"])
    assert call["function"]["name"] == "look_up"
    assert isinstance(arguments["city"], str)
    assert arguments["days"] == 3
    assert whole["finish_reason"] == ("tool_calls" if choice == "required" else "stop")
    *chunks, _ = await stream(client, "/v1/chat/completions", body, sse)
    deltas = [chunk["choices"][0]["delta"].get("tool_calls", [{}])[0] for _, chunk in chunks]
    assert [delta["function"].get("name") for delta in deltas if delta][0] == "look_up"
    streamed = "".join(delta["function"]["arguments"] for delta in deltas if delta)
    assert streamed == call["function"]["arguments"]
    assert chunks[-1][1]["choices"][0]["finish_reason"] == whole["finish_reason"]


async def test_a_tool_is_not_called_unless_forced(
    client: httpx.AsyncClient, chat_body: dict[str, Any]
) -> None:
    answer = (await client.post("/v1/chat/completions", json=chat_body | {"tools": TOOLS})).json()
    assert "tool_calls" not in answer["choices"][0]["message"]
    wrong = {"type": "function", "function": {"name": "other"}}
    refused = await client.post(
        "/v1/chat/completions", json=chat_body | {"tools": TOOLS, "tool_choice": wrong}
    )
    assert refused.status_code == 400


async def test_stop_strings_end_an_answer(client: httpx.AsyncClient, sse: Sse) -> None:
    body = {"prompt": "the fox", "max_tokens": 20}
    text = (await client.post("/v1/completions", json=body)).json()["choices"][0]["text"]
    stop = text[13:19]
    stopped = (await client.post("/v1/completions", json=body | {"stop": stop})).json()["choices"][0]
    assert stopped["text"] == text[: text.index(stop)]
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", stop)
    *chunks, _ = await stream(client, "/v1/completions", body | {"stop": [stop]}, sse)
    assert "".join(chunk["choices"][0]["text"] for _, chunk in chunks) == stopped["text"]
    assert chunks[-1][1]["choices"][0]["stop_reason"] == stop


@pytest.mark.parametrize("extra", [{}, {"n": 2}, {"logprobs": 2}, {"echo": True}, {"return_token_ids": True}])
async def test_a_completion_stream_adds_up_to_the_whole_answer(
    speaker: httpx.AsyncClient, sse: Sse, extra: dict[str, Any]
) -> None:
    body = {"prompt": ["one fox", "two foxes"], "max_tokens": 5} | extra
    whole = (await speaker.post("/v1/completions", json=body)).json()
    *chunks, done = await stream(speaker, "/v1/completions", body, sse)
    assert done == (None, "[DONE]")
    texts: dict[int, str] = {}
    tokens: dict[int, list[int]] = {}
    for _, chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
        tokens.setdefault(choice["index"], []).extend(choice["token_ids"] or [])
    assert texts == {choice["index"]: choice["text"] for choice in whole["choices"]}
    assert len(texts) == 2 * body.get("n", 1)
    if "return_token_ids" in body:
        assert tokens == {choice["index"]: choice["token_ids"] for choice in whole["choices"]}
    await speaker.aclose()


async def test_completion_offsets_point_into_the_text(client: httpx.AsyncClient) -> None:
    body = {"prompt": "fox", "max_tokens": 4, "logprobs": 3}
    choice = (await client.post("/v1/completions", json=body)).json()["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["text_offset"] == [0, 4, 8, 12]
    assert [len(top) for top in logprobs["top_logprobs"]] == [3] * 4
    assert all(-1 <= value <= 0 for value in logprobs["token_logprobs"])


async def test_token_prompts_are_accepted(client: httpx.AsyncClient) -> None:
    ids = (await client.post("/tokenize", json={"prompt": "the fox ran"})).json()["tokens"]
    text = (await client.post("/v1/completions", json={"prompt": "the fox ran"})).json()
    same = (await client.post("/v1/completions", json={"prompt": ids})).json()
    both = (await client.post("/v1/completions", json={"prompt": [ids, ids[:1]]})).json()
    assert same["usage"]["prompt_tokens"] == text["usage"]["prompt_tokens"] == 3
    assert both["usage"]["prompt_tokens"] == 4


async def test_a_responses_stream_is_numbered_and_ends_with_the_whole_response(
    speaker: httpx.AsyncClient, sse: Sse
) -> None:
    body = {"input": "Tell me about the fox.", "instructions": "Be brief.", "max_output_tokens": 5}
    headers = {"x-request-id": "fixed"}
    whole = (await speaker.post("/v1/responses", json=body, headers=headers)).json()
    answer = await speaker.post("/v1/responses", json=body | {"stream": True}, headers=headers)
    events = sse(answer.content)
    assert [name for name, _ in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 5,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert all(data["type"] == name for name, data in events)
    final = events[-1][1]["response"]
    for response in (whole, final):
        response.pop("created_at")
        response["usage"]["input_tokens_details"].pop("cached_tokens")
    assert final == whole
    assert whole["status"] == "incomplete"
    text = whole["output"][0]["content"][0]["text"]
    assert "".join(data["delta"] for name, data in events if name == "response.output_text.delta") == text
    await speaker.aclose()


async def test_a_response_calls_a_forced_function(client: httpx.AsyncClient, sse: Sse) -> None:
    tool = {"type": "function", "name": "look_up", "parameters": TOOLS[0]["function"]["parameters"]}
    body = {"input": "hi", "tools": [tool], "tool_choice": {"type": "function", "name": "look_up"}}
    (item,) = (await client.post("/v1/responses", json=body)).json()["output"]
    assert (item["type"], item["name"]) == ("function_call", "look_up")
    assert orjson.loads(item["arguments"])["days"] == 3
    events = await stream(client, "/v1/responses", body, sse)
    deltas = [data["delta"] for name, data in events if name == "response.function_call_arguments.delta"]
    assert "".join(deltas) == item["arguments"]


async def test_a_conversation_in_responses_items_is_understood(client: httpx.AsyncClient) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1", "output": "42"},
        {"type": "reasoning", "summary": []},
    ]
    answer = await client.post("/v1/responses", json={"input": items})
    assert answer.json()["status"] == "completed"
    unknown = await client.post("/v1/responses", json={"input": [{"type": "telepathy"}]})
    assert unknown.status_code == 400


async def test_a_messages_stream_adds_up_to_the_whole_message(speaker: httpx.AsyncClient, sse: Sse) -> None:
    body = {
        "model": "fake",
        "max_tokens": 5,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    whole = (await speaker.post("/v1/messages", json=body)).json()
    events = await stream(speaker, "/v1/messages", body, sse)
    assert [name for name, _ in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 5,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert (
        "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")
        == (whole["content"][0]["text"])
    )
    assert events[-2][1]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert events[-2][1]["usage"] == whole["usage"]
    await speaker.aclose()


async def test_a_message_uses_a_forced_tool(client: httpx.AsyncClient, sse: Sse) -> None:
    body = {
        "model": "fake",
        "max_tokens": 90,
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "look_up", "input_schema": TOOLS[0]["function"]["parameters"]}],
        "tool_choice": {"type": "any"},
    }
    whole = (await client.post("/v1/messages", json=body)).json()
    assert whole["stop_reason"] == "tool_use"
    assert whole["content"][0]["input"]["days"] == 3
    events = await stream(client, "/v1/messages", body, sse)
    parts = [data["delta"]["partial_json"] for name, data in events if name == "content_block_delta"]
    assert orjson.loads("".join(parts)) == whole["content"][0]["input"]


async def test_a_stop_sequence_is_reported_by_name(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "model": "fake",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "hi"}],
    }
    text = (await client.post("/v1/messages", json=body)).json()["content"][0]["text"]
    stopped = (await client.post("/v1/messages", json=body | {"stop_sequences": [text[9:13]]})).json()
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", text[9:13])


async def test_request_ids_come_from_the_client_or_are_unique(
    start_engine: StartEngine, chat_body: dict[str, Any]
) -> None:
    ids: list[str] = []
    for engine in (await start_engine(), await start_engine()):
        async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
            answers = [await client.post("/v1/chat/completions", json=chat_body) for _ in range(2)]
            ids += [answer.json()["id"] for answer in answers]
            named = await client.post(
                "/v1/chat/completions", json=chat_body, headers={"x-request-id": "mine"}
            )
            assert named.json()["id"] == "chatcmpl-mine"
    assert len(set(ids)) == 4
    assert all(len(i.removeprefix("chatcmpl-")) == 32 for i in ids)


async def test_a_conversation_hits_its_own_prefix_including_the_answer(start_engine: StartEngine) -> None:
    engine = await start_engine()
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        messages = [{"role": "user", "content": "Tell me everything about the fox. " * 20}]
        first = (
            await client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 64})
        ).json()
        messages.append(first["choices"][0]["message"])
        messages.append({"role": "user", "content": "And the cow?"})
        second = (
            await client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 4})
        ).json()
    held = first["usage"]["total_tokens"] - 1
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == held // 32 * 32
