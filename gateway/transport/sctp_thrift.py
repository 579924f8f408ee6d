"""Fewer packets and no tasks for aiortc's SCTP: acknowledgements as RFC 9260 has them, sending at once.

As released, every packet with data is acknowledged by a packet of its own, and every message is sent by a
task of its own. RFC 9260 section 6.2 asks for an acknowledgement of every second packet and within 200 ms,
and section 6.10 lets it ride on data that goes the other way: tokens and acknowledgements share packets.

The names are private, hence the exact pin of aiortc, and the check before anything relies on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from gateway.transport.sctp_repair import lack_of

SACK_EVERY = 2
"""Packets with data for one acknowledgement."""
SACK_DELAY = 0.1
"""Seconds that an acknowledgement waits at most: half of the least that a peer's timer waits for it."""
_DATA, _SACK = 0, 3
_PACKET_BYTES = 1189
"""Longest SCTP packet, as aiortc has it: the least MTU of IPv6 without the headers around it."""
_HEAD_BYTES = 12

_METHODS = {
    "_send_sack": ["self"],
    "_send_chunk": ["self", "chunk"],
    "_data_channel_flush": ["self"],
}
_ATTRIBUTES = ("_sack_needed", "_sack_misordered", "_sack_duplicates")


def problem_of(transport_class: type[Any]) -> str | None:
    """Why this does not fit a version of `RTCSctpTransport`, None if it does."""
    return lack_of(transport_class, inspect.getsource(transport_class), _METHODS, _ATTRIBUTES)


def economise(association: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Make one association, before it is started, acknowledge less and send at once."""
    sacks = _Sacks(association, loop)
    association._send_sack, association._send_chunk = sacks.owe, sacks.send_chunk
    association._data_channel_flush = at_once(association._data_channel_flush, loop)


class _Sacks:
    """What one association owes its peer: an acknowledgement rides on data, or leaves when it must."""

    def __init__(self, association: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._association = association
        self._loop = loop
        self._send_sack: Callable[[], Awaitable[None]] = association._send_sack
        self._send_chunk: Callable[[Any], Awaitable[None]] = association._send_chunk
        self._owed = 0
        """Packets with data that have not been acknowledged."""
        self._passenger: Any = None
        """A data chunk that leaves together with the next acknowledgement."""
        self._waiting = False

    async def owe(self) -> None:
        """A packet with data has come. Gaps and repeats are told at once (RFC 9260 section 6.7)."""
        association = self._association
        association._sack_needed = False
        self._owed += 1
        if self._owed >= SACK_EVERY or association._sack_misordered or association._sack_duplicates:
            await self._pay()
        elif not self._waiting:
            self._waiting = True
            self._loop.call_later(SACK_DELAY, self._expired)

    async def send_chunk(self, chunk: Any) -> None:
        """Send `chunk`: data takes along what is owed."""
        if chunk.type == _DATA and (self._owed or self._association._sack_needed):
            self._passenger = chunk
            await self._pay()
        elif chunk.type == _SACK and self._passenger is not None:
            data, self._passenger = self._passenger, None
            both = _Bundle(chunk, data)
            if _HEAD_BYTES + len(bytes(both)) <= _PACKET_BYTES:
                await self._send_chunk(both)
            else:
                await self._send_chunk(chunk)
                await self._send_chunk(data)
        else:
            await self._send_chunk(chunk)

    async def _pay(self) -> None:
        self._owed = 0
        await self._send_sack()

    def _expired(self) -> None:
        # It is not cancelled when the acknowledgement left with data: that would cost more than this call.
        self._waiting = False
        if self._owed and self._association.state != "closed":
            at_once(self._late, self._loop)()

    async def _late(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._pay()


class _Bundle:
    """Two chunks in one packet, as far as sending them goes."""

    type = _SACK

    def __init__(self, *chunks: Any) -> None:
        self._chunks = chunks
        self._bytes = b"".join(map(bytes, chunks))

    def __bytes__(self) -> bytes:
        return self._bytes

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._chunks))


def at_once(
    start: Callable[[], Coroutine[Any, Any, None]], loop: asyncio.AbstractEventLoop
) -> Callable[[], Awaitable[None]]:
    """`start`, run when it is called, not when it is awaited, and without a task if it need not wait."""
    done = loop.create_future()
    done.set_result(None)

    def run() -> Awaitable[None]:
        work = start()
        try:
            waits_for = work.send(None)
        except StopIteration:
            return done
        return loop.create_task(_rest(work, waits_for))

    return run


async def _rest(work: Coroutine[Any, Any, None], waits_for: Any) -> None:
    await _Begun(work, waits_for)


class _Begun:
    """A coroutine that waits for a future already, to be awaited from there on."""

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, None]:
        try:
            yield self._waits_for
        except asyncio.CancelledError:
            self._work.close()
            raise
        except Exception:
            pass  # the coroutine asks the future by itself, and gets it again
        yield from self._work.__await__()
