"""Server-sent events at the byte level: where events end, what a failure looks like, what usage they report.

Nothing here decodes JSON per event. A JSON string contains neither an unescaped quote nor a line break, so
the byte pattern `"usage":{` is a key, and a line `data: [DONE]` an end, whatever the model wrote.
"""

from __future__ import annotations

import re

import msgspec
import orjson

from gateway.errors import GatewayError

PING = b": ping\n"
"""A comment of one line: with a blank line behind it, stock OpenAI clients fail on an event without data."""

USAGE_KEY = b'"usage":{'
_OPENAI_END = re.compile(rb"data: ?\[DONE\][\r\n]")
_ENDS = {
    "chat": _OPENAI_END,
    "completions": _OPENAI_END,
    "responses": re.compile(rb"event: ?response\.(?:completed|incomplete|failed)[\r\n]"),
    "messages": re.compile(rb"event: ?message_stop[\r\n]"),
}
"""What the last events of a complete stream hold, by family; whatever else streams needs no end marker.

They count at the start of a line: a line break in a JSON string is escaped, so no model can write one. That
is looked at afterwards, since an expression that begins with a literal is searched twenty times as fast.
"""
_BLANK_LINE = re.compile(rb"\n\r?\n")
_ERROR = re.compile(rb'(?:^|[\r\n])(?:data: ?\{"error":|event: ?(?:error|response\.failed)[\r\n])')
_COUNT = re.compile(
    rb'"(prompt_tokens|input_tokens|completion_tokens|output_tokens|cached_tokens|cache_read_input_tokens)"'
    rb": ?(\d{1,12})"
)
_SEQUENCE = re.compile(rb'"sequence_number": ?(\d{1,12})')
USAGE_WINDOW = 2048
"""Bytes behind the key within which the counts are looked for."""


class EventTooLong(Exception):
    """One event is longer than the limit for what may be held back."""


class EventSplitter:
    """Cuts a stream of payload bytes after the last complete event; holds the rest until it is complete."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.held = b""
        self.limit = limit

    def feed(self, payload: bytes) -> bytes:
        """Whole events so far held and in `payload`; raises EventTooLong."""
        data = self.held + payload if self.held else payload
        end = event_end(data)
        self.held = data[end:]
        if len(self.held) > self.limit:
            raise EventTooLong(f"an event is longer than {self.limit} bytes")
        return data[:end]


def event_end(data: bytes) -> int:
    """Length of the longest prefix of `data` that consists of whole events (0 if there is none).

    Events end in a blank line; lines end in LF, CRLF or CR (WHATWG HTML section 9.2.5). CR alone is so rare
    that only LF and CRLF are looked for; a stream that uses it is held until it ends.
    """
    lf = data.rfind(b"\n\n")
    crlf = data.rfind(b"\n\r\n")
    return max(lf + 2 if lf >= 0 else 0, crlf + 3 if crlf >= 0 else 0)


def split_events(events: bytes) -> list[bytes]:
    """Whole events one by one, each with its blank line. Blocks of comments alone are none: left out."""
    pieces: list[bytes] = []
    start = 0
    for found in _BLANK_LINE.finditer(events):
        piece = events[start : found.end()]
        start = found.end()
        if piece[:1] != b":" or not all(line[:1] in (b":", b"") for line in piece.splitlines()):
            pieces.append(piece)
    return pieces


def has_end(family: str, tail: bytes) -> bool:
    """Do the last pieces of a stream of `family` show that the answer is complete, or why it is not?"""
    marker = _ENDS.get(family)
    if marker is None:
        return True
    begins = (found.start() for found in marker.finditer(tail))
    return any(not start or tail[start - 1] in b"\r\n" for start in begins) or has_error(tail)


def has_error(tail: bytes) -> bool:
    """Do the last pieces of a stream tell its client that the answer failed?"""
    # The expression is slow, the search for what it needs is not, and nearly every tail has neither.
    return (b"error" in tail or b"response.failed" in tail) and _ERROR.search(tail) is not None


class Usage(msgspec.Struct):
    """Token counts as the engine reported them; 0 where it did not."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def read(self, data: bytes) -> None:
        """Take counts from the last usage object in `data`; larger numbers win over earlier ones."""
        start = data.rfind(USAGE_KEY)
        if start < 0 and (start := data.rfind(b'"usage": {')) < 0:
            return
        for name, digits in _COUNT.findall(data, start, start + USAGE_WINDOW):
            value = int(digits)
            if name in (b"prompt_tokens", b"input_tokens"):
                if value > self.prompt_tokens:
                    self.prompt_tokens = value
            elif name in (b"completion_tokens", b"output_tokens"):
                if value > self.output_tokens:
                    self.output_tokens = value
            elif value > self.cached_tokens:
                self.cached_tokens = value


def error_event(family: str, error: GatewayError, last_event: bytes) -> bytes:
    """The event that tells a client of `family` that the answer broke off. Never a `[DONE]`."""
    form = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    if family == "messages":
        document = {"type": "error", "error": {"type": "api_error", "message": error.message}}
        return b"event: error\ndata: " + orjson.dumps(document) + b"\n\n"
    if family == "responses":
        found = _SEQUENCE.findall(last_event)
        failed: dict[str, object] = {
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": None,
            "sequence_number": int(found[-1]) + 1 if found else 0,
            "error": form,
        }
        return b"event: error\ndata: " + orjson.dumps(failed) + b"\n\n"
    return b"data: " + orjson.dumps({"error": form}) + b"\n\n"
