from __future__ import annotations

import json
from typing import Any

import pytest

from engine_adapter.vllm.sources import REMEMBERED, SourceBoard
from engine_adapter.vllm.usage import KvUsage

SOURCES = {"engine": 32, "memory": 64, "computed": 5}


def start(kind: bytes, length: int | None = None) -> dict[str, Any]:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def through(messages: list[dict[str, Any]], path: str = "/v1/chat/completions") -> list[dict[str, Any]]:
    board = SourceBoard()
    board.note("chatcmpl-abc-0123abcd", SOURCES)
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody reads here")

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await KvUsage(app, board)({"type": "http", "path": path}, receive, send)
    return sent


async def test_a_document_gets_a_member_a_header_and_its_new_length() -> None:
    document = {"id": "chatcmpl-abc", "usage": {"prompt_tokens": 101, "total_tokens": 103}}
    raw = json.dumps(document, separators=(",", ":")).encode()
    head, answer = await through([start(b"application/json", len(raw)), body(raw)])
    headers = dict(head["headers"])
    assert headers[b"x-sluice-kv"] == b"engine=32, memory=64, computed=5"
    assert int(headers[b"content-length"]) == len(answer["body"])
    found = json.loads(answer["body"])
    assert found["usage"].pop("sluice") == {"kv": SOURCES}
    assert found == document


async def test_only_the_event_with_usage_is_touched() -> None:
    text = (
        b'data: {"id":"chatcmpl-abc","choices":[{"delta":{"content":"\\"usage\\":{\\"a"}}],"usage":null}\n\n'
    )
    last = b'data: {"id":"chatcmpl-abc","choices":[],"usage":{"prompt_tokens":101}}\n\n'
    messages = [start(b"text/event-stream; charset=utf-8"), body(text, True), body(last, True), body(b"")]
    sent = await through(messages)
    assert sent[:2] == messages[:2]
    assert sent[3] == messages[3]
    assert json.loads(sent[2]["body"][6:])["usage"] == {"sluice": {"kv": SOURCES}, "prompt_tokens": 101}


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/v1/chat/completions", b'{"id":"chatcmpl-unknown","usage":{"prompt_tokens":1}}'),
        ("/v1/chat/completions", b'{"error":{"message":"no"}}'),
        ("/v1/embeddings", b'{"id":"chatcmpl-abc","usage":{"prompt_tokens":1}}'),
        ("/v1/chat/completions", b'{"id":"chatcmpl-abc","usage":{}}'),
    ],
)
async def test_everything_else_passes_byte_for_byte(path: str, raw: bytes) -> None:
    messages = [start(b"application/json", len(raw)), body(raw)]
    assert await through(messages, path) == messages


async def test_a_document_in_pieces_is_left_alone() -> None:
    messages = [
        start(b"application/json"),
        body(b'{"id":"chatcmpl-abc",', True),
        body(b'"usage":{"prompt_tokens":1}}'),
    ]
    assert [m.get("body") for m in await through(messages)][:2] == [None, messages[1]["body"]]


def test_samples_of_one_prompt_count_once_and_prompts_of_one_request_together() -> None:
    board = SourceBoard()
    for sample in range(3):
        board.note(f"{sample}_chatcmpl-n-89abcdef", SOURCES)
    assert board.of("chatcmpl-n") == SOURCES
    board.note("cmpl-two-0-89abcdef", {"computed": 3})
    board.note("cmpl-two-1-01234567", {"computed": 4, "file": 32})
    assert board.of("cmpl-two") == {"computed": 7, "file": 32}
    assert board.of("cmpl-none") is None


def test_old_requests_are_forgotten() -> None:
    board = SourceBoard()
    for number in range(REMEMBERED + 1):
        board.note(f"chatcmpl-{number}-89abcdef", {"computed": number})
    assert board.of("chatcmpl-0") is None
    assert board.of(f"chatcmpl-{REMEMBERED}") == {"computed": REMEMBERED}
