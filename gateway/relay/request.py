"""An inference request: which endpoint, what of its JSON the gateway reads, and what it sends on.

The body is decoded once, only for the fields named here; every other field is skipped by the parser and
reaches the engine as the same bytes.
"""

from __future__ import annotations

from operator import attrgetter

import msgspec

from gateway.errors import InvalidRequest
from gateway.relay.extras import BODY_KEY

FAMILIES: dict[bytes, str] = {
    b"/v1/chat/completions": "chat",
    b"/v1/completions": "completions",
    b"/v1/responses": "responses",
    b"/v1/messages": "messages",
    b"/v1/messages/count_tokens": "messages",
    b"/v1/embeddings": "pooling",
    b"/pooling": "pooling",
    b"/classify": "pooling",
    b"/v1/rerank": "pooling",
    b"/v2/rerank": "pooling",
    b"/rerank": "pooling",
    b"/v1/score": "pooling",
    b"/score": "pooling",
    b"/tokenize": "tokens",
    b"/detokenize": "tokens",
}
"""POST endpoints that are relayed. The family decides the form of errors inside a stream."""

_NONE = msgspec.Raw(b"")
_ROUTED_BYTES = 4 * 1024 * 1024
"""More than this (a million tokens) of a prompt or what precedes it decides nothing about where it goes."""


class _Fields(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    messages: msgspec.Raw = _NONE
    prompt: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE
    system: msgspec.Raw = _NONE
    instructions: msgspec.Raw = _NONE
    tools: msgspec.Raw = _NONE
    documents: msgspec.Raw = _NONE
    chat_template: msgspec.Raw = _NONE
    chat_template_kwargs: msgspec.Raw = _NONE
    cache_salt: msgspec.Raw = _NONE
    priority: msgspec.Raw = _NONE
    max_tokens: msgspec.Raw = _NONE
    max_completion_tokens: msgspec.Raw = _NONE
    max_output_tokens: msgspec.Raw = _NONE
    sluice: msgspec.Raw = _NONE


_COMMON = frozenset(("model", "stream", "messages", "prompt", "input", "max_tokens"))
_rare = attrgetter(*(name for name in _Fields.__struct_fields__ if name not in _COMMON))
_NO_RARE = _rare(_Fields())
_decoder = msgspec.json.Decoder(_Fields)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class InferenceRequest(msgspec.Struct, gc=False):
    """What the gateway knows of one request's body."""

    model: str | None
    stream: bool
    prompt: bytes
    """Raw JSON of the conversation, prompt or input."""
    max_tokens: int | None
    head: bytes = b""
    """What engines salt or render before the conversation: salt, template, tools, documents, system; raw
    JSON."""
    priority: int = 0
    """Larger is more urgent."""
    extras: msgspec.Raw | None = None
    """What the body says to the gateway itself, see `extras`; raw JSON."""
    salt: bytes = b""
    """The client's own `cache_salt`, raw JSON."""


def parse(body: bytes | bytearray) -> InferenceRequest:
    """Read a request body (a JSON object in UTF-8). Raises InvalidRequest, which says where it is wrong."""
    try:
        fields = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(error) from None
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply.", code="invalid_json") from None
    prompt = fields.messages
    if prompt is _NONE:
        prompt = fields.prompt if fields.prompt is not _NONE else fields.input
    limit = fields.max_tokens
    request = InferenceRequest(
        fields.model,
        fields.stream is True,
        bytes(memoryview(prompt)[:_ROUTED_BYTES]),
        None if limit is _NONE else _integer(limit),
    )
    if _rare(fields) != _NO_RARE:
        _read_rare(fields, request)
    return request


def _read_rare(fields: _Fields, request: InferenceRequest) -> None:
    """What few requests have."""
    extras = (
        fields.cache_salt,
        fields.chat_template,
        fields.chat_template_kwargs,
        fields.tools,
        fields.documents,
        fields.system,
        fields.instructions,
    )
    request.head = b"\0".join(memoryview(raw)[:_ROUTED_BYTES] for raw in extras if raw is not _NONE)
    if fields.max_tokens is _NONE:
        limit = fields.max_completion_tokens
        if limit is _NONE:
            limit = fields.max_output_tokens
        request.max_tokens = _integer(limit)
    # To vLLM a smaller number is more urgent.
    request.priority = -(_integer(fields.priority) or 0)
    request.salt = bytes(fields.cache_salt)
    if fields.sluice is not _NONE:
        request.extras = fields.sluice


def with_model(body: bytes | bytearray, model: str) -> bytes:
    """The same body, which `parse` has read, with another model name; every other value keeps its bytes.

    Raises InvalidRequest for a key that is not UTF-8, which `parse` does not look at.
    """
    fields = _fields_of(body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def with_priority(body: bytes | bytearray, priority: int) -> bytes:
    """The same body with another priority, in our sense: larger is more urgent. Raises as `with_model`."""
    fields = _fields_of(body)
    fields["priority"] = msgspec.Raw(b"%d" % -priority)
    return msgspec.json.encode(fields)


def with_salt(body: bytes | bytearray, salt: bytes, *, replaces: bool) -> bytes:
    """The same body with `cache_salt`, a JSON string; `replaces` says whether it had one. Raises as
    `with_model`."""
    if not replaces and body[:2] == b'{"':
        return b"".join((b'{"cache_salt":', salt, b",", memoryview(body)[1:]))
    fields = _fields_of(body)
    fields["cache_salt"] = msgspec.Raw(salt)
    return msgspec.json.encode(fields)


def without_extras(body: bytes | bytearray) -> bytes:
    """The same body without what it says to the gateway itself. Raises as `with_model`."""
    fields = _fields_of(body)
    fields.pop(BODY_KEY, None)
    return msgspec.json.encode(fields)


def _fields_of(body: bytes | bytearray) -> dict[str, msgspec.Raw]:
    try:
        return _object_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(error) from None


def _integer(raw: msgspec.Raw) -> int | None:
    """A plain JSON integer, else None: the engine says what is wrong with anything else."""
    text = bytes(raw)
    try:
        return int(text) if len(text) < 20 else None
    except ValueError:
        return None


def _not_json(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"The request body is not valid JSON: {error}", code="invalid_json")


def _wrong_type(error: msgspec.ValidationError) -> InvalidRequest:
    message = str(error)
    param = None
    if " - at `$." in message:
        message, _, path = message.partition(" - at `$.")
        param = path.rstrip("`")
        return InvalidRequest(f"Wrong type for '{param}': {message}.", code="invalid_type", param=param)
    return InvalidRequest(f"The request body must be a JSON object: {message}.", code="invalid_type")
