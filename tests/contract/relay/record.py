"""Record what an engine sends, byte for byte, for the differential tests of the relay.

    cd tests/contract/relay && python record.py http://127.0.0.1:8000 base recordings/vllm-0.32.0

One file per case of `CASES`, holding the raw response: head, framing and body. Works with vLLM and with the
fake engine (`python -m engine_adapter.fake`). Record anew when the supported vLLM version changes.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_MESSAGES = [{"role": "user", "content": "Who is the boss of Ada?"}]
_CHAT = {"messages": _MESSAGES, "max_tokens": 4, "temperature": 0}
_COMPLETION = {"prompt": "Ada lives in", "max_tokens": 4, "temperature": 0}
_RESPONSE = {"input": "Who is the boss of Ada?", "max_output_tokens": 4, "temperature": 0}
_STREAM = {"stream": True}
_USAGE = {"stream": True, "stream_options": {"include_usage": True}}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", _CHAT),
    "chat-stream": ("/v1/chat/completions", _CHAT | _STREAM),
    "chat-stream-usage": ("/v1/chat/completions", _CHAT | _USAGE),
    "chat-stream-continuous-usage": (
        "/v1/chat/completions",
        _CHAT | {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "chat-stream-two-choices": ("/v1/chat/completions", _CHAT | _STREAM | {"n": 2, "temperature": 1}),
    "chat-stream-logprobs": (
        "/v1/chat/completions",
        _CHAT | _STREAM | {"logprobs": True, "top_logprobs": 2, "max_tokens": 2},
    ),
    "chat-stream-one-token": ("/v1/chat/completions", _CHAT | _STREAM | {"max_tokens": 1}),
    "chat-malformed": ("/v1/chat/completions", {"messages": "hi"}),
    "chat-too-long": ("/v1/chat/completions", _CHAT | {"max_tokens": 1_000_000}),
    "chat-stream-too-long": ("/v1/chat/completions", _CHAT | _STREAM | {"max_tokens": 1_000_000}),
    "chat-unknown-model": ("/v1/chat/completions", _CHAT | {"model": "nobody"}),
    "completion": ("/v1/completions", _COMPLETION),
    "completion-stream": ("/v1/completions", _COMPLETION | _STREAM),
    "completion-stream-usage": ("/v1/completions", _COMPLETION | _USAGE),
    "completion-two-prompts": ("/v1/completions", _COMPLETION | {"prompt": ["Ada", "Ben"]}),
    "completion-stream-two-prompts": ("/v1/completions", _COMPLETION | _STREAM | {"prompt": ["Ada", "Ben"]}),
    "responses": ("/v1/responses", _RESPONSE),
    "responses-stream": ("/v1/responses", _RESPONSE | _STREAM),
    "messages": ("/v1/messages", {"messages": _MESSAGES, "max_tokens": 4}),
    "messages-stream": ("/v1/messages", {"messages": _MESSAGES, "max_tokens": 4} | _STREAM),
    "messages-malformed": ("/v1/messages", {"messages": "hi", "max_tokens": 4}),
    "count-tokens": ("/v1/messages/count_tokens", {"messages": _MESSAGES}),
    "tokenize": ("/tokenize", {"prompt": "Ada lives in"}),
    "detokenize": ("/detokenize", {"tokens": [5, 6, 7]}),
    "embeddings": ("/v1/embeddings", {"input": "Ada"}),
    "rerank": ("/rerank", {"query": "Ada", "documents": ["Ben"]}),
    "score": ("/score", {"text_1": "Ada", "text_2": "Ben"}),
}


def record(url: str, path: str, body: dict[str, Any]) -> bytes:
    """Send one request and return the raw response, up to where its framing ends."""
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"accept-encoding: identity\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port), timeout=120) as connection:
        connection.sendall(head.encode() + content)
        received = b""
        while not _is_complete(received):
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
    return received


def _is_complete(response: bytes) -> bool:
    head, found, body = response.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
        if line.startswith(b"transfer-encoding:"):
            return body.endswith(b"0\r\n\r\n")
    return False


def main(url: str, model: str, directory: str) -> None:
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    for name, (path, body) in CASES.items():
        response = record(url, path, {"model": model} | body)
        (out / f"{name}.http").write_bytes(response)
        print(f"{name:32} {response.split(b' ', 2)[1].decode()} {len(response):6} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
