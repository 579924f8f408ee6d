"""Heads that repeat: who keeps a connection sends the same fields with every message.

A head that was parsed, checked and found good once is recognised by its bytes when it comes again; only the
digits of its content-length may differ. Nothing that was not in the first head can be in the second.
"""

from __future__ import annotations

import msgspec

from gateway.relay.call import Keys
from gateway.relay.envelope import Envelope

_LENGTH = b"\r\ncontent-length:"
_DIGITS = 8
"""Longest content-length that is recognised: 99,999,999."""


class KnownHead(msgspec.Struct, frozen=True):
    """A good head of one connection, and what it meant."""

    before: bytes
    """The head's bytes up to the digits of its content-length."""
    after: bytes
    """And from behind them to the end of the blank line."""
    envelope: Envelope
    keys: Keys | None
    keys_version: int
    """Of `keys`, which knew the envelope's key."""


def body_behind(before: bytes, after: bytes, data: bytes) -> bytes | None:
    """The body, if `data` is exactly one message whose head is `before`, a length, and `after`, else None."""
    if not data.startswith(before):
        return None
    start, rest = len(before), len(after)
    end = data.find(after, start, start + _DIGITS + rest)
    if end < 0:
        return None
    body = data[end + rest :]
    return body if data[start:end] == b"%d" % len(body) else None


def split_head(data: bytes) -> tuple[bytes, bytes] | None:
    """The head at the start of `data`, parted at its content-length's digits, if it has exactly one."""
    end = data.find(b"\r\n\r\n") + 4
    lower = data[:end].lower()
    start = lower.find(_LENGTH)
    if start < 0 or lower.find(_LENGTH, start + 1) >= 0:
        return None
    start += len(_LENGTH)
    while data[start : start + 1] == b" ":
        start += 1
    stop = data.find(b"\r", start)
    return (data[:start], data[stop:end]) if data[start:stop].isdigit() else None
