"""Server-sent events from bytes, for a client: the data of each event and, where given, its number."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    data: bytes
    number: int | None
    """Of its `id:` line."""


class EventParser:
    """Feed it the body in any cut. Events without data are none (WHATWG HTML section 9.2.6)."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes."""
        *blocks, self._held = _BLANK_LINE.split(self._held + piece)
        return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: bytes) -> Event | None:
    data: list[bytes] = []
    number = None
    for line in block.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id" and value.isdigit():
            number = int(value)
    return Event(b"\n".join(data), number) if data else None
