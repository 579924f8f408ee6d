"""Deltas of a chat stream as short records, from which the server-sent event can be rebuilt byte for byte.

Nearly all chunks of a stream differ in two places alone: the choice's index and one JSON string. What is
constant around them is a *form*; it is sent once, and a chunk of a known form becomes its text. Every other
chunk (tool calls as they begin, logprobs, usage, role, finish) travels whole. The split is one of bytes:
nothing here has to understand a chunk for the inverse to be exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum

import orjson

DONE = b"[DONE]"
"""Payload of the event that ends an OpenAI stream."""

MAX_FORMS = 4
MAX_TEMPLATE_BYTES = 480
"""All forms of a stream together: they must leave room for records in the packets that introduce them."""
_MAX_CHOICE = 0xFFFF
_LEARN_ATTEMPTS = 8
"""Chunks that are looked at for a new form; a stream with logprobs would otherwise be parsed throughout."""
_ERROR = re.compile(rb'\{\s*"error"\s*:')


class Kind(IntEnum):
    """What a record's payload is. The numbers are those of the wire."""

    TEXT = 0
    """UTF-8 text that a form completes."""
    JSON = 1
    """A whole chunk as the engine wrote it."""
    ERROR = 2
    """A whole error object; nothing follows."""
    END = 3
    """The answer is complete (`[DONE]`); nothing follows."""


@dataclass(frozen=True, slots=True)
class Record:
    """One delta. `form` and `choice` mean something for TEXT alone."""

    kind: Kind
    payload: bytes = b""
    form: int = 0
    choice: int = 0

    @property
    def final(self) -> bool:
        """Is this a stream's last record?"""
        return self.kind >= Kind.ERROR


END = Record(Kind.END)


@dataclass(frozen=True, slots=True)
class Form:
    """The constant bytes of a chunk: `prefix`, choice index, `middle`, JSON string, `suffix`."""

    prefix: bytes
    middle: bytes
    suffix: bytes

    def __len__(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)


@dataclass(slots=True)
class Template:
    """The forms of one stream, in the order in which they were first seen."""

    forms: list[Form] = field(default_factory=list)
    attempts: int = _LEARN_ATTEMPTS

    def learn(self, chunk: bytes) -> None:
        """Add the form of `chunk` if it has one and there is room."""
        if not self.attempts or len(self.forms) >= MAX_FORMS:
            return
        self.attempts -= 1
        form = form_of(chunk)
        if form is not None and sum(map(len, self.forms)) + len(form) <= MAX_TEMPLATE_BYTES:
            self.forms.append(form)


def compact(chunk: bytes, template: Template) -> Record:
    """The record of one event's `data`; may add a form to `template`. `expand` is its exact inverse."""
    if chunk == DONE:
        return END
    record = _text(chunk, template)
    if record is None:
        known = len(template.forms)
        template.learn(chunk)
        record = _text(chunk, template) if len(template.forms) > known else None
    if record is not None:
        return record
    # An event stream is UTF-8 whose readers replace what is not (WHATWG HTML section 9.2.4): do so for them.
    return Record(Kind.ERROR if _ERROR.match(chunk) else Kind.JSON, chunk.decode(errors="replace").encode())


def expand(record: Record, template: Template) -> bytes:
    """One event's `data`. Raises KeyError if `template` lacks the record's form."""
    if record.kind is Kind.END:
        return DONE
    if record.kind is not Kind.TEXT:
        return record.payload
    if record.form >= len(template.forms):
        raise KeyError(f"form {record.form} has not been received; {len(template.forms)} are known")
    form = template.forms[record.form]
    literal = orjson.dumps(record.payload.decode())
    return b"%b%d%b%b%b" % (form.prefix, record.choice, form.middle, literal, form.suffix)


def form_of(chunk: bytes) -> Form | None:
    """The form of a chunk whose one news is a string of its only choice; None for any other chunk."""
    try:
        document = orjson.loads(chunk)
        (choice,) = document["choices"]
        ((key, value),) = choice["delta"].items() if "delta" in choice else [("text", choice["text"])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if document.get("usage") or choice.get("finish_reason") or choice.get("logprobs"):
        return None
    if key == "tool_calls":
        key, value = "arguments", _arguments(value)
    if not isinstance(value, str):
        return None
    literal = re.escape(orjson.dumps(value))
    string = re.escape(orjson.dumps(key))
    found = re.fullmatch(
        rb'(?s)(.*?"choices"\s*:\s*\[\s*\{\s*"index"\s*:\s*)(0|[1-9]\d{0,4})(\D.*?%b\s*:\s*)%b([\s,}].*)'
        % (string, literal),
        chunk,
    )
    return Form(found[1], found[3], found[4]) if found else None


def _arguments(calls: object) -> object:
    """The piece of arguments in a delta that continues one tool call and does nothing else."""
    match calls:
        case [{"index": int(), "function": {"arguments": str(arguments), **others}, **more}] if (
            not others | more
        ):
            return arguments
    return None


def _text(chunk: bytes, template: Template) -> Record | None:
    for number, form in enumerate(template.forms):
        if not (chunk.startswith(form.prefix) and chunk.endswith(form.suffix)):
            continue
        news = chunk[len(form.prefix) : len(chunk) - len(form.suffix)]
        digits, middle, literal = news.partition(form.middle)
        if not middle or not digits.isdigit() or digits != b"%d" % int(digits) or int(digits) > _MAX_CHOICE:
            continue
        try:
            text = orjson.loads(literal)
        except orjson.JSONDecodeError:
            continue
        if isinstance(text, str) and orjson.dumps(text) == literal:
            return Record(Kind.TEXT, text.encode(), number, int(digits))
    return None
