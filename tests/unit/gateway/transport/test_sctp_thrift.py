from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.transport import sctp_thrift
from gateway.transport.sctp_thrift import at_once, economise, problem_of


@dataclass
class Chunk:
    type: int
    body: bytes = b"...."

    def __bytes__(self) -> bytes:
        return self.body


class Association:
    """What thrift needs of aiortc's, with its order of events."""

    state = "connected"

    def __init__(self) -> None:
        self._sack_needed = False
        self._sack_misordered: set[int] = set()
        self._sack_duplicates: list[int] = []
        self.sent: list[bytes] = []
        self.flushed = 0

    async def _send_sack(self) -> None:
        await self._send_chunk(Chunk(3, b"sack"))
        self._sack_duplicates.clear()
        self._sack_needed = False

    async def _send_chunk(self, chunk: Any) -> None:
        self.sent.append(bytes(chunk))

    async def _data_channel_flush(self) -> None:
        self.flushed += 1

    async def data_came(self) -> None:
        self._sack_needed = True
        if self._sack_needed:
            await self._send_sack()


class Loop:
    """Real futures, and timers that fire when a test says so."""

    def __init__(self) -> None:
        self.timers: list[Any] = []
        self.create_future = asyncio.get_running_loop().create_future
        self.create_task = asyncio.get_running_loop().create_task

    def call_later(self, delay: float, action: Any) -> None:
        assert delay <= 0.2  # RFC 9260 section 6.2
        self.timers.append(action)


@pytest.fixture
async def rig() -> tuple[Association, Loop]:
    association, loop = Association(), Loop()
    economise(association, loop)  # type: ignore[arg-type]
    return association, loop


async def test_every_second_packet_is_acknowledged(rig: tuple[Association, Loop]) -> None:
    association, _ = rig
    for _ in range(5):
        await association.data_came()
    assert association.sent == [b"sack", b"sack"]


async def test_what_is_owed_rides_on_data(rig: tuple[Association, Loop]) -> None:
    association, loop = rig
    await association.data_came()
    assert association.sent == []
    await association._send_chunk(Chunk(0, b"data"))
    await association._send_chunk(Chunk(0, b"more"))
    assert association.sent == [b"sackdata", b"more"]
    (timer,) = loop.timers
    timer()
    assert len(association.sent) == 2


async def test_data_sent_while_data_is_being_taken_acknowledges_it(rig: tuple[Association, Loop]) -> None:
    association, _ = rig
    association._sack_needed = True
    await association._send_chunk(Chunk(0, b"data"))
    assert association.sent == [b"sackdata"]
    assert not association._sack_needed


async def test_it_waits_a_limited_time(rig: tuple[Association, Loop]) -> None:
    association, loop = rig
    await association.data_came()
    loop.timers.pop()()
    assert association.sent == [b"sack"]
    await association.data_came()
    assert len(loop.timers) == 1


@pytest.mark.parametrize("trouble", ["_sack_misordered", "_sack_duplicates"])
async def test_gaps_and_repeats_are_told_at_once(rig: tuple[Association, Loop], trouble: str) -> None:
    association, _ = rig
    setattr(association, trouble, [7])
    await association.data_came()
    assert association.sent == [b"sack"]


async def test_what_does_not_fit_into_one_packet_goes_in_two(rig: tuple[Association, Loop]) -> None:
    association, _ = rig
    await association.data_came()
    await association._send_chunk(Chunk(0, b"x" * 1177))
    assert association.sent == [b"sack", b"x" * 1177]


async def test_a_connection_that_is_gone_leaves_no_traceback() -> None:
    class Gone(Association):
        async def _send_chunk(self, chunk: Any) -> None:
            raise ConnectionError("gone")

    association, loop = Gone(), Loop()
    economise(association, loop)  # type: ignore[arg-type]
    await association.data_came()
    loop.timers.pop()()
    assert association.sent == []


async def test_nothing_is_sent_once_the_association_is_closed(rig: tuple[Association, Loop]) -> None:
    association, loop = rig
    await association.data_came()
    association.state = "closed"
    loop.timers.pop()()
    assert association.sent == []


async def test_a_message_leaves_when_it_is_sent(rig: tuple[Association, Loop]) -> None:
    association, _ = rig
    waiting = asyncio.ensure_future(association._data_channel_flush())
    assert association.flushed == 1
    assert waiting.done()
    await association._data_channel_flush()
    assert association.flushed == 2


async def test_what_has_to_wait_goes_on_in_a_task() -> None:
    loop = asyncio.get_running_loop()
    gate: asyncio.Future[int] = loop.create_future()
    found: list[object] = []

    async def work() -> None:
        found.append("begun")
        try:
            found.append(await gate)
        except ValueError as error:
            found.append(str(error))

    waiting = at_once(work, loop)()
    assert found == ["begun"]
    gate.set_result(5)
    await waiting
    assert found == ["begun", 5]

    gate = loop.create_future()
    waiting = at_once(work, loop)()
    gate.set_exception(ValueError("no"))
    await waiting
    assert found[2:] == ["begun", "no"]

    gate = loop.create_future()
    task = asyncio.ensure_future(at_once(work, loop)())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert found[4:] == ["begun"]


def test_a_version_that_it_does_not_fit_is_told_by_name() -> None:
    assert problem_of(Association) is None

    class Renamed(Association):
        _send_sack = None  # type: ignore[assignment]

    assert "_send_sack" in str(problem_of(Renamed))


def test_it_fits_the_pinned_version() -> None:
    pytest.importorskip("aiortc")
    from gateway.transport import webrtc

    assert webrtc.NO_THRIFT is None
    assert sctp_thrift._PACKET_BYTES == webrtc.rtcsctptransport.SCTP_MAX_PACKET_LENGTH
