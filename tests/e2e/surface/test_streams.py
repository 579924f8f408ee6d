"""Kept streams and data channels with both engines, by OpenAI's client and by `sluice chat`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import openai
import pytest
from openai import Stream
from openai.types.chat import ChatCompletionChunk

QUESTION: list[Any] = [{"role": "user", "content": "Tell me about the fox and the river."}]


def fields_of(model: str) -> dict[str, Any]:
    return {"model": model, "messages": QUESTION, "max_tokens": 16, "temperature": 0, "stream": True}


def text_of(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize(
    "extra",
    [
        {"extra_headers": {"x-sluice-stream": "resumable"}},
        {"extra_headers": {"x-sluice-stream": "detached; ids"}},
        {"extra_body": {"sluice": {"stream": "resumable"}}},
        {"extra_body": {"sluice": {"stream": "detached", "ids": True}}},
    ],
)
def test_openais_client_reads_every_form(client: openai.OpenAI, model: str, extra: dict[str, Any]) -> None:
    fields = fields_of(model)
    plain = text_of(client.chat.completions.create(**fields))
    assert plain
    options = {"stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(**fields, **options, **extra))
    assert text_of(chunks) == plain
    assert chunks[-1].usage is not None
    raw = client.chat.completions.with_raw_response.create(**fields, **extra)
    assert text_of(raw.parse()) == plain
    again = client.get(
        f"/streams/{raw.headers['x-sluice-stream-id']}",
        cast_to=ChatCompletionChunk,
        stream=True,
        stream_cls=Stream[ChatCompletionChunk],
    )
    assert text_of(again) == plain


def test_every_number_gives_the_rest_of_the_same_bytes(sluice: Any, model: str) -> None:
    answer = sluice.post("/v1/chat/completions", fields_of(model), headers={"x-sluice-stream": "resumable"})
    events = [event + "\n\n" for event in answer.text.split("\n\n")[:-1]]
    path = f"/v1/streams/{answer.headers['x-sluice-stream-id']}"
    for after in range(len(events) + 1):
        again = sluice.get(path, params={"starting_after": after})
        rest = [f"id: {number}\n{event}" for number, event in enumerate(events, 1) if number > after]
        assert again.text == "".join(rest)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/completions"])
def test_other_families_are_kept_too(sluice: Any, model: str, path: str) -> None:
    body: dict[str, Any] = {"model": model, "stream": True}
    body |= {
        "/v1/responses": {"input": "Who?", "max_output_tokens": 8},
        "/v1/messages": {"messages": QUESTION, "max_tokens": 8},
        "/v1/completions": {"prompt": "The fox", "max_tokens": 8},
    }[path]
    answer = sluice.post(path, body, headers={"x-sluice-stream": "detached"})
    assert answer.status_code == 200
    again = sluice.get(f"/v1/streams/{answer.headers['x-sluice-stream-id']}").text
    assert (
        "".join(line + "\n" for line in again.split("\n")[:-1] if not line.startswith("id: ")) == answer.text
    )


def test_a_reload_in_mid_answer(sluice: Any, model: str) -> None:
    fields = fields_of(model) | {"max_tokens": 24}
    whole = sluice.post("/v1/chat/completions", fields, headers={"x-sluice-stream": "resumable"})
    got = b""
    headers = {"x-sluice-stream": "detached"}
    url = f"{sluice.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=fields, headers=headers, timeout=300, verify=False) as stream:
        for piece in stream.iter_raw():
            got += piece
            if got.count(b"\n\n") >= 2:
                break
        stream_id = stream.headers["x-sluice-stream-id"]
    events = got.split(b"\n\n")[:-1]
    again = sluice.get(f"/v1/streams/{stream_id}", headers={"last-event-id": str(len(events))})
    rest = [event.partition(b"\n")[2] for event in again.content.split(b"\n\n")[:-1]]
    assert texts(events + rest) == texts(whole.content.split(b"\n\n")[:-1])


def texts(events: list[bytes]) -> str:
    assert events[-1] == b"data: [DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(event[6:]) for event in events[:-1]]
    return text_of(chunks)


def test_the_command_line_chat_says_the_same_on_every_path(sluice: Any, model: str) -> None:
    pytest.importorskip("aiortc")
    said = {}
    for transport in ("sse", "eloquent"):
        command = [sys.executable, "-m", "gateway", "chat", "--url", sluice.url, "--model", model]
        command += [
            "--transport",
            transport,
            "--max-tokens",
            "24",
            "--temperature",
            "0",
            QUESTION[0]["content"],
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "first token" in done.stderr
        assert "via sse" in done.stderr
        said[transport] = done.stdout
    assert said["sse"].strip()
    assert said["sse"] == said["eloquent"]


def test_a_conversation_on_the_command_line(sluice: Any, model: str) -> None:
    command = [sys.executable, "-m", "gateway", "chat", "--url", sluice.url, "--max-tokens", "4", "-q"]
    done = subprocess.run(
        command, input="One?\nTwo?\n\n", capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("> ") == 3
    nowhere = subprocess.run(
        [*command[:-4], "--url", "http://127.0.0.1:9", "Hi"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert nowhere.returncode == 1
    assert "does not answer" in nowhere.stderr
