"""The relay changes nothing: bodies are the same bytes on both sides of it, in both directions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

MESSAGES = '[{"role": "user",\t"content": "caf\\u00e9 \u00e9 \\ud83e\\udd8a \U0001f98a \\"quoted\\" \\/"}]'
ODD = '"temperature" : 0.0e0, "x_unknown":{"deep":[1,2.50,{"a":null}] , "z":"\\u0000"}'
"""Spellings that decoding and encoding would change, and a field that nobody knows."""

ENDPOINTS = {
    "/v1/chat/completions": f'"messages":{MESSAGES}, "max_tokens":5,"logprobs":true,{ODD}',
    "/v1/completions": f'"prompt":"caf\\u00e9 \u00e9", "max_tokens":  5,{ODD}',
    "/v1/responses": '"input":"caf\\u00e9 \u00e9", "max_output_tokens":5, "temperature":0.00',
    "/v1/messages": f'"messages":{MESSAGES}, "max_tokens":5, "temperature":0.00',
    "/v1/messages/count_tokens": f'"messages":{MESSAGES}',
    "/v1/embeddings": '"input":["caf\\u00e9",  "b"]',
    "/pooling": '"input":["caf\\u00e9",  "b"]',
    "/classify": '"input":["caf\\u00e9",  "b"]',
    "/v1/rerank": '"query":"caf\\u00e9",  "documents":["b", "c"]',
    "/v2/rerank": '"query":"caf\\u00e9",  "documents":["b", "c"]',
    "/rerank": '"query":"caf\\u00e9",  "documents":["b", "c"]',
    "/v1/score": '"text_1":"caf\\u00e9",  "text_2":["b", "c"]',
    "/score": '"text_1":"caf\\u00e9",  "text_2":["b", "c"]',
    "/tokenize": '"prompt":"caf\\u00e9 \u00e9"',
    "/detokenize": '"tokens":[5,  6,7]',
}
STREAMING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
CASES = [(path, False) for path in ENDPOINTS] + [(path, True) for path in STREAMING]

ADDED = {"x-request-id", "x-sluice-worker", "x-sluice-route", "server-timing"}
FRAMING = {"connection", "transfer-encoding", "content-length", "keep-alive", "x-accel-buffering"}

_IDS = re.compile(r'"(resp|msg|call|fc|rs|chatcmpl-tool)[_-][0-9a-f]+"')
_DELTAS = re.compile(r'"(?:text|content|delta)":"((?:[^"\\]|\\.)*)"')
_TIMES_AND_PLACES = re.compile(r'"(created|created_at|completed_at|sequence_number)": ?[0-9.]+')

cases = pytest.mark.parametrize(
    ("path", "stream"), CASES, ids=[f"{path[1:]}{'-stream' * stream}" for path, stream in CASES]
)


def _body(path: str, model: str, *, stream: bool) -> bytes:
    also = '"stream" : true ,' if stream else ""
    return f'\n{{ {also} "model":"{model}",  {ENDPOINTS[path]} }} '.encode()


def _request(path: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"POST {path}?from=here HTTP/1.1\r\nHost: gateway.example\r\nContent-Type: application/json\r\n"
        f"X-Mine: caf\u00e9\r\nX-Request-Id: wire-1\r\nConnection: close\r\n{more}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def _head_and_body(sent: bytearray) -> tuple[list[bytes], bytes]:
    head, _, body = bytes(sent).partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


@cases
def test_bodies_are_the_same_bytes(wire: Any, answer_of: Callable[..., Any], path: str, stream: bool) -> None:
    body = _body(path, wire.model, stream=stream)
    answer, recorded = wire.exchange(_request(path, body))
    lines, received = _head_and_body(recorded.sent)
    assert lines[0] == f"POST {path}?from=here HTTP/1.1".encode()
    assert received == body
    direct = answer_of(bytes(recorded.answered))
    assert answer.status == direct.status
    assert answer.body == direct.body
    assert answer.body
    if stream:
        assert answer.status == 200
        assert answer.header("content-type").startswith("text/event-stream")


@cases
def test_headers_pass_but_for_what_belongs_to_one_connection(
    wire: Any, answer_of: Callable[..., Any], path: str, stream: bool
) -> None:
    secret = "Authorization: Bearer of-the-client\r\nX-Api-Key: of-the-client\r\nTE: trailers\r\n"
    answer, recorded = wire.exchange(_request(path, _body(path, wire.model, stream=stream), secret))
    lines, _ = _head_and_body(recorded.sent)
    sent = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines[1:]}
    assert sent[b"x-mine"] == "caf\u00e9".encode("latin-1")
    assert sent[b"x-request-id"] == b"wire-1"
    assert sent[b"content-type"] == b"application/json"
    assert not sent.keys() & {b"authorization", b"x-api-key", b"connection", b"te"}
    direct = answer_of(bytes(recorded.answered))
    passed = {name: value for name, value in answer.headers if name not in ADDED | FRAMING}
    expected = {name: value for name, value in direct.headers if name not in ADDED | FRAMING | {"server"}}
    if stream:
        expected.setdefault("cache-control", "no-cache")
    assert passed == expected
    assert {name for name, _ in answer.headers} >= ADDED


def test_an_alias_changes_the_model_and_nothing_else(wire: Any) -> None:
    path = "/v1/chat/completions"
    _, recorded = wire.exchange(_request(path, _body(path, "other-name", stream=False)))
    _, received = _head_and_body(recorded.sent)
    asked = json.loads(_body(path, "other-name", stream=False))
    assert json.loads(received) == asked | {"model": wire.model}
    for literal in (MESSAGES, "0.0e0", '{"deep":[1,2.50,{"a":null}] , "z":"\\u0000"}'):
        assert literal.encode() in received


@cases
def test_asking_the_worker_directly_gives_the_same(sluice: Any, model: str, path: str, stream: bool) -> None:
    """Two runs of one greedy request, so ids and times differ where the engine makes them up, and events hold
    more or fewer tokens each."""
    content = _body(path, model, stream=stream)
    headers = {"content-type": "application/json", "x-request-id": "same-1"}
    direct, relayed = (
        httpx.post(url + path, content=content, headers=headers, timeout=300, verify=False)
        for url in (sluice.worker_urls()[0], sluice.url)
    )
    assert relayed.status_code == direct.status_code
    said = _said if stream else _alike
    assert said(relayed.text) == said(direct.text)


def _alike(answer: str) -> str:
    """Without what differs between two runs."""
    return _TIMES_AND_PLACES.sub(r'"\1":0', _IDS.sub(r'"\1_id"', answer))


def _said(stream: str) -> tuple[str, str]:
    """All text of a stream's events, and its last event."""
    text = "".join(_DELTAS.findall(stream))
    assert text
    return text, _alike(stream.rstrip().rpartition("\n\n")[2])
