"""Server-sent events at the byte level: where events end, what a failure looks like, what usage they report.

Nothing here decodes JSON per event. A JSON string cannot contain an unescaped quote, so the byte pattern
`"usage":{` is a key wherever it occurs, whatever the model wrote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from gateway.errors import GatewayError

PING = b": ping\n"
"""A comment of one line: with a blank line behind it, stock OpenAI clients fail on an event without data."""

USAGE_KEY = b'"usage":{'
_DONE = re.compile(rb"(?:^|\n)data: ?\[DONE\]\r?\n")
_FINISH = re.compile(
    rb'"(?:finish|stop)_reason": ?"|event: ?(?:message_stop|response\.(?:completed|incomplete|failed))'
)
_COUNT = re.compile(
    rb'"(prompt_tokens|input_tokens|completion_tokens|output_tokens|cached_tokens|cache_read_input_tokens)"'
    rb": ?(\d{1,12})"
)
_SEQUENCE = re.compile(rb'"sequence_number": ?(\d{1,12})')
_USAGE_WINDOW = 2048


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


def count_events(data: bytes) -> int:
    """Blocks in `data`, which consists of whole events."""
    return data.count(b"\n\n") + data.count(b"\n\r\n")


def ends_stream(tail: bytes) -> bool:
    """Does the last piece of a stream show that the answer is complete ([DONE], a finish, a stop event)?"""
    return _DONE.search(tail) is not None or _FINISH.search(tail) is not None


@dataclass(slots=True)
class Usage:
    """Token counts as the engine reported them; 0 where it did not."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def read(self, data: bytes) -> None:
        """Take counts from the last usage object in `data`; larger numbers win over earlier ones."""
        start = data.rfind(USAGE_KEY)
        if start < 0 and (start := data.rfind(b'"usage": {')) < 0:
            return
        for name, digits in _COUNT.findall(data, start, start + _USAGE_WINDOW):
            value = int(digits)
            if name in (b"prompt_tokens", b"input_tokens"):
                self.prompt_tokens = max(self.prompt_tokens, value)
            elif name in (b"completion_tokens", b"output_tokens"):
                self.output_tokens = max(self.output_tokens, value)
            else:
                self.cached_tokens = max(self.cached_tokens, value)


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
