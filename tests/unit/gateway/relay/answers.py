"""What the exchange tests let a worker answer, and how they read what the client got."""

from __future__ import annotations

import orjson

from gateway.relay.framing import ChunkedReader

from .conftest import MemoryClient

DOCUMENT = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}'
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
JSON_ANSWER = JSON_HEAD % len(DOCUMENT) + DOCUMENT


def status(code: int, *lines: bytes) -> bytes:
    """An error answer of a worker, with more head lines."""
    body = b'{"error":{"message":"from the worker"}}'
    head = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (code, head, len(body), body)


def payload(client: MemoryClient) -> bytes:
    """The client's body without its chunk framing."""
    reader = ChunkedReader()
    return reader.feed(client.body)


def error(client: MemoryClient) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(client.body)["error"]
    return found
