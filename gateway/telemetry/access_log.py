"""One line per inference request, kept off the hot path: appended to a list there, written in batches.

Prompts, answers and keys are never logged; of the URL only the path is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import BinaryIO

import orjson

from gateway.relay.accounting import AccessRecord

WRITE_INTERVAL = 0.5
SLICE = 100
"""Records that are rendered at a time; in between, the event loop serves requests."""

Render = Callable[[AccessRecord], bytes]


class AccessLog:
    """`write` costs a list append. `run` is its timer; `close` writes what is left.

    Every failed request is logged. Of good ones at most `share`, evenly spread, and at most `per_second`:
    under load a log of everything would cost more than the requests. `wants` counts what it lets out.
    """

    __slots__ = ("_credit", "_left", "_limit", "_per_write", "_records", "_render", "_share", "_stream",
                 "dropped", "skipped")  # fmt: skip

    def __init__(
        self,
        stream: BinaryIO,
        render: Render,
        *,
        share: float = 1.0,
        per_second: float = 200.0,
        limit: int = 20_000,
    ) -> None:
        self._stream = stream
        self._render = render
        self._share = share
        self._credit = 0.0
        self._per_write = self._left = max(1, round(per_second * WRITE_INTERVAL))
        self._limit = limit
        self._records: list[AccessRecord] = []
        self.dropped = 0
        """Records that found the list full."""
        self.skipped = 0
        """Good requests that were not logged, because of `share` or `per_second`."""

    def wants(self, status: int, end: str) -> bool:
        """Is a request that ended so to be logged? Asked once per request, before its record is made."""
        if status >= 400 or end != "ok":
            return True
        self._credit += self._share
        if self._credit < 1.0 or self._left <= 0:
            self._credit = min(self._credit, 1.0)
            self.skipped += 1
            return False
        self._credit -= 1.0
        self._left -= 1
        return True

    def write(self, record: AccessRecord) -> None:
        """Take a finished request's record, if there is room."""
        if len(self._records) >= self._limit:
            self.dropped += 1
            return
        self._records.append(record)

    async def run(self) -> None:
        """Write every half second until cancelled."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL)
            await self.flush()

    async def flush(self) -> None:
        """Write what has gathered, without holding the event loop for long: a full pipe may block."""
        records, self._records = self._records, []
        self._left = self._per_write
        if not records:
            return
        lines: list[bytes] = []
        for start in range(0, len(records), SLICE):
            lines += map(self._render, records[start : start + SLICE])
            await asyncio.sleep(0)
        await asyncio.to_thread(self._put, b"".join(lines))

    def close(self) -> None:
        """Write the rest at once, at the end of the process."""
        records, self._records = self._records, []
        self._put(b"".join(map(self._render, records)))

    def _put(self, text: bytes) -> None:
        self._stream.write(text)
        self._stream.flush()


def went_wrong(record: AccessRecord) -> bool:
    """Should somebody look at it? Not at what a client did wrong or left unfinished."""
    return record.status >= 500 or record.end not in ("ok", "refused", "client_gone", "drained")


def json_line(record: AccessRecord) -> bytes:
    """A JSON object and a newline; durations in seconds."""
    if "?" in record.path:
        record = replace(record, path=_path(record))
    second, fraction = divmod(record.started, 1.0)
    head = b'{"timestamp":"%b.%03dZ","level":"%b","event":"request",' % (
        _utc(int(second)),
        fraction * 1e3,
        b"warning" if went_wrong(record) else b"info",
    )
    return head + orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)[1:]


@lru_cache(maxsize=8)
def _utc(second: int) -> bytes:
    """Kept for the next records: formatting a date costs more than the rest of a line."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def console_line(record: AccessRecord) -> bytes:
    """For a person at a terminal."""
    at = datetime.fromtimestamp(record.started).strftime("%H:%M:%S")
    parts = [
        f"{at} {record.method} {_path(record)} {record.status}",
        f"{record.model or '-'} at {record.worker}" if record.worker else record.model,
        f"{record.duration * 1e3:.0f} ms",
    ]
    if record.ttft:
        parts.append(f"first byte {record.ttft * 1e3:.0f} ms")
    if record.prompt_tokens or record.output_tokens:
        cached = f" ({record.cached_tokens} cached)" if record.cached_tokens else ""
        parts.append(f"tokens {record.prompt_tokens}{cached} -> {record.output_tokens}")
    if record.attempts > 1:
        parts.append(f"{record.attempts} attempts")
    if record.end != "ok":
        parts.append(f"ended: {record.end}")
    line = ", ".join(part for part in parts if part) + f"  [{record.request_id}]"
    return (_printable(line) + "\n").encode("utf-8", "replace")


def _path(record: AccessRecord) -> str:
    return record.path.partition("?")[0]


def _printable(line: str) -> str:
    """Clients choose ids and models: what they send must not steer a terminal."""
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)
