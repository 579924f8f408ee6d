"""Heads that repeat: a client that keeps its connection sends the same fields with every request.

A head that was parsed, checked and found good once is recognised by its bytes when it comes again; only the
digits of its content-length may differ. Nothing that was not in the first head can be in the second.
"""

from __future__ import annotations

import msgspec

from gateway.access.keys import Key
from gateway.relay.fields import Headers

_LENGTH = b"\r\ncontent-length:"
_DIGITS = 8
"""Longest content-length that is recognised: 99,999,999."""


class KnownHead(msgspec.Struct, frozen=True):
    """A good head of one connection, and what it meant."""

    before: bytes
    """The head's bytes up to the digits of its content-length."""
    after: bytes
    """And from behind them to the end of the blank line."""
    family: str
    url: bytes
    headers: Headers
    fields: dict[bytes, bytes]
    key: Key | None
    keys_version: int
    """Of the key ring that knew `key`."""

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is exactly one request with this head, else None."""
        before = self.before
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        start = end + len(self.after)
        return data[start:] if len(data) - start == int(digits) else None


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
