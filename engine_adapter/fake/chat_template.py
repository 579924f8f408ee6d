"""From messages to tokens, the fake engine's chat template.

Every role header, `<|u>` for the user and so on, and the end mark `<|e>` is one four-byte token; contents
start on a token boundary. So a conversation that grows keeps the tokens it had, the earlier answer included,
and the prefix cache hits across turns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from engine_adapter.fake.tokens import Prompt, pad

_HEADERS = {
    "system": b"<|s>",
    "developer": b"<|s>",
    "user": b"<|u>",
    "assistant": b"<|a>",
    "tool": b"<|t>",
    "function": b"<|t>",
}
_TOOLS = b"<|f>"
_MEDIA = b"<|m>"
_END = b"<|e>"
ASSISTANT = _HEADERS["assistant"]

_TEXT_PARTS = {"text", "input_text", "output_text", "refusal"}


class MessageError(ValueError):
    """A message is not of the shape the API defines."""

    def __init__(self, message: str, location: str) -> None:
        super().__init__(message)
        self.location = location
        """Dotted path of the field at fault, e.g. `messages.0.content`."""


def render_chat(
    messages: Sequence[Any], tools: Sequence[Any] | None = None, *, add_generation_prompt: bool = True
) -> Prompt:
    """Tokens of a conversation, with the tools first and the assistant's header last.

    Raises MessageError naming the message at fault.
    """
    out: list[bytes] = []
    if tools:
        out += (_TOOLS, pad(orjson.dumps(tools)), _END)
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise MessageError("a message is an object with a role", f"messages.{number}")
        out.append(_HEADERS.get(message["role"], _HEADERS["user"]))
        content = message.get("content")
        if isinstance(content, str):
            out.append(pad(content.encode("utf-8", "replace")))
        elif isinstance(content, list):
            out += _parts(content, number)
        elif content is not None:
            raise MessageError("content is a string or a list of parts", f"messages.{number}.content")
        if calls := message.get("tool_calls"):
            out.append(pad(orjson.dumps(calls)))
        out.append(_END)
    if add_generation_prompt:
        out.append(ASSISTANT)
    return Prompt.from_packed(b"".join(out))


def _parts(parts: Iterable[Any], number: int) -> list[bytes]:
    out: list[bytes] = []
    for part in parts:
        if isinstance(part, str):
            out.append(pad(part.encode("utf-8", "replace")))
        elif not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise MessageError("a content part is an object with a type", f"messages.{number}.content")
        elif part["type"] in _TEXT_PARTS and isinstance(part.get("text", part.get("refusal")), str):
            out.append(pad((part.get("text") or part.get("refusal") or "").encode("utf-8", "replace")))
        else:
            # An image or a sound stands as its hash, 16 tokens: equal media, equal tokens.
            fingerprint = hashlib.sha256(orjson.dumps(part, option=orjson.OPT_SORT_KEYS)).hexdigest()
            out += (_MEDIA, fingerprint.encode())
    return out
