"""JSON bodies: what the gateway reads in one, and writes instead, is what Python's own parser finds there.

vLLM's server parses bodies with `json.loads`. Where the two would differ (a key written with escapes, or
twice), a request could be let through as one thing and executed as another: another model, another tenant's
cache. The parser is no Python, so no branch of it is seen; bytes are therefore also read as words.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from engine_adapter.cache_salt import MARK
from gateway.access.keys import Key
from gateway.errors import InvalidRequest
from gateway.relay import extras
from gateway.relay.isolation import salt_for
from gateway.relay.request import (
    InferenceRequest,
    parse,
    with_model,
    with_priority,
    with_salt,
    without_extras,
)

ACME = Key("key_1", "acme", "0" * 64, tenant="acme")

KEYS = ("model", "stream", "cache_salt", "priority", "sluice", "kv_quality", "ids", "messages", "max_tokens")
WORDS = (
    *(b"{", b"}", b"[", b"]", b":", b",", b" ", b"\n"),
    *(
        b"null",
        b"true",
        b"false",
        b"0",
        b"-1",
        b"1e999",
        b"1.5",
        b"9" * 25,
        b"NaN",
        b'"',
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(
        b'"a"',
        b'""',
        b'"sluice1:4:acme:exact"',
        b'"\\ud800"',
        b'"\xc3\xa9"',
        b'"small"',
        b'"detached"',
        b'"\\u0000"',
    ),
    *(b'"%b":' % key.encode() for key in KEYS),
    *(b'"\\u%04x%b":' % (ord(key[0]), key[1:].encode()) for key in KEYS),
)


def one(data: bytes) -> None:
    _check(data)
    _check(b"{" + b"".join(WORDS[byte % len(WORDS)] for byte in data) + b"}")


def _check(data: bytes) -> None:
    try:
        request = parse(data)
    except InvalidRequest:
        return
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    assert isinstance(document, dict)
    assert request.model == document.get("model")
    assert request.stream == (document.get("stream") is True)
    assert (request.extras is None) == ("sluice" not in document)
    if request.extras is not None:
        _extras(request.extras)
    _rewritten(data, request, document)


def _extras(raw: msgspec.Raw) -> None:
    try:
        asked = extras.from_body(raw)
    except InvalidRequest:
        return
    found = json.loads(bytes(raw)) or {}
    assert asked.kv_quality == found.get("kv_quality", "exact")
    assert asked.stream == found.get("stream")


def _rewritten(data: bytes, request: InferenceRequest, document: dict[str, Any]) -> None:
    try:
        _same(with_model(data, 'other"'), document | {"model": 'other"'})
        _same(with_priority(data, 7), document | {"priority": -7})
        _same(without_extras(data), {key: value for key, value in document.items() if key != "sluice"})
        salt = salt_for(ACME, "chat", "exact", request.salt)
    except InvalidRequest:
        return
    assert salt is not None
    text: str = json.loads(salt)
    assert text.startswith(f"{MARK}:")
    assert "acme" in text or "blake2b" in text
    _same(with_salt(data, salt, replaces=bool(request.salt)), document | {"cache_salt": text})


def _same(body: bytes, document: dict[str, Any]) -> None:
    # By their text, since a number that is none (1e999) is unequal to nothing but itself.
    found = json.loads(body)
    assert json.dumps(found, sort_keys=True) == json.dumps(document, sort_keys=True)
