"""Heads that repeat: who keeps a connection sends the same fields with every message.

A head that was parsed, checked and found good once is recognised by its bytes when it comes again; only the
digits of its content-length may differ. Nothing that was not in the first head can be in the second.
"""

from __future__ import annotations

import msgspec

_LENGTH = b"\r\ncontent-length:"
_DIGITS = 8
"""Longest content-length that is recognised: 99,999,999."""


class HeadPattern(msgspec.Struct, frozen=True, gc=False):
    """A head, parted at the digits of its content-length."""

    before: bytes
    """Its bytes up to them."""
    after: bytes
    """And from behind them to the end of the blank line."""
    start: int
    """Length of `before`,"""
    rest: int
    """and of `after`."""
    limit: int
    """Behind this, `after` cannot end."""

    def body_behind(self, data: bytes) -> bytes | None:
        """The body, if `data` is exactly one message with this head and its own length, else None."""
        if not data.startswith(self.before):
            return None
        start = self.start
        end = data.find(self.after, start, self.limit)
        if end < 0:
            return None
        body = data[end + self.rest :]
        return body if data[start:end] == b"%d" % len(body) else None


def pattern_of(data: bytes) -> HeadPattern | None:
    """Of the head at the start of `data`, if it has exactly one content-length."""
    end = data.find(b"\r\n\r\n") + 4
    lower = data[:end].lower()
    start = lower.find(_LENGTH)
    if start < 0 or lower.find(_LENGTH, start + 1) >= 0:
        return None
    start += len(_LENGTH)
    while data[start : start + 1] == b" ":
        start += 1
    stop = data.find(b"\r", start)
    if not data[start:stop].isdigit():
        return None
    rest = end - stop
    return HeadPattern(data[:start], data[stop:end], start, rest, start + _DIGITS + rest)
