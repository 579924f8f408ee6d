from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.access.keys import Key
from gateway.errors import GatewayError, NotFound, RateLimited, Unavailable
from gateway.transport.calls import Calls, OfferRates, process_of_call
from gateway.transport.counts import StreamCounts
from gateway.transport.lines import Lines, Loaded, WebrtcUnavailable
from gateway.transport.settings import RealtimeSettings

OFFER = b"v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
HEADERS = {"content-type": "application/sdp", "authorization": "Bearer x"}


class Line:
    """The channels of a call that nobody answers."""

    open_lines = 0

    def __init__(self) -> None:
        Line.open_lines += 1
        self.on_open: Any = None
        self.closed = False
        self.said: list[str] = []
        self.has_tokens = False
        self.control_queued = 0
        self.queued = 0

    async def answer(self, offer: str) -> str:
        await asyncio.sleep(0)
        return offer

    def send_text(self, text: str) -> None:
        self.said.append(text)

    async def close(self) -> None:
        assert not self.closed
        self.closed = True
        Line.open_lines -= 1


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def calls_of(clock: Clock, lines: list[Line], **fields: Any) -> Calls:
    def new_line() -> Line:
        lines.append(Line())
        return lines[-1]

    library: Any = SimpleNamespace(
        streams=SimpleNamespace(counts=StreamCounts()), siblings=SimpleNamespace(number=0)
    )
    relay: Any = SimpleNamespace(now=clock.now)
    settings = RealtimeSettings(**{"offers_per_second": 1000.0, "offers_burst": 100_000} | fields)
    lines_ = Lines(lambda: Loaded(new_line, None))  # type: ignore[arg-type, return-value]
    return Calls(settings, relay, library, lines_)


@pytest.fixture
async def lines() -> AsyncIterator[list[Line]]:
    made: list[Line] = []
    yield made
    await asyncio.sleep(0)
    assert Line.open_lines == 0, "a call was not closed"


def key(name: str) -> Key:
    return Key(id=name, name=name, hash="")


async def test_ten_thousand_half_open_offers(clock: Clock, lines: list[Line]) -> None:
    calls = calls_of(clock, lines)
    refusals: dict[str, int] = {}
    for number in range(10_000):
        try:
            await calls.open(key(f"k{number % 2000}"), HEADERS, "192.0.2.9", OFFER)
        except GatewayError as error:
            refusal = f"{error.status} {error.code}, retry after {error.retry_after:.0f} s"
            refusals[refusal] = refusals.get(refusal, 0) + 1
    assert len(lines) == calls.settings.half_open == 64
    assert calls.gauges() == {"calls": 0, "half_open_calls": 64}
    assert sum(refusals.values()) == 10_000 - 64
    assert set(refusals) == {"503 too_many_calls, retry after 15 s"}
    clock.time += 16.0
    calls.sweep(clock.time)
    await calls.close()
    assert calls.gauges() == {"calls": 0, "half_open_calls": 0}
    assert calls.library.streams.counts.calls == {"never_connected": 64}


async def test_one_key_cannot_take_all(clock: Clock, lines: list[Line]) -> None:
    calls = calls_of(clock, lines, half_open_per_key=2, calls_per_key=3)
    for _ in range(2):
        await calls.open(key("a"), HEADERS, "", OFFER)
    with pytest.raises(RateLimited, match="2 calls are open already, 2 of them not connected"):
        await calls.open(key("a"), HEADERS, "", OFFER)
    await calls.open(key("b"), HEADERS, "", OFFER)
    for line in lines:
        line.on_open()
    await calls.open(key("a"), HEADERS, "", OFFER)
    lines[-1].on_open()
    with pytest.raises(RateLimited, match="3 calls"):
        await calls.open(key("a"), HEADERS, "", OFFER)
    await calls.close()


async def test_without_keys_the_address_counts(clock: Clock, lines: list[Line]) -> None:
    calls = calls_of(clock, lines, half_open_per_key=1)
    await calls.open(None, HEADERS, "192.0.2.1", OFFER)
    await calls.open(None, HEADERS, "192.0.2.2", OFFER)
    with pytest.raises(RateLimited):
        await calls.open(None, HEADERS, "192.0.2.1", OFFER)
    await calls.close()


async def test_calls_of_a_process_are_limited(clock: Clock, lines: list[Line]) -> None:
    calls = calls_of(clock, lines, calls=1)
    await calls.open(key("a"), HEADERS, "", OFFER)
    with pytest.raises(Unavailable, match="server-sent events"):
        await calls.open(key("b"), HEADERS, "", OFFER)
    await calls.close()


async def test_idle_calls_are_closed(clock: Clock, lines: list[Line]) -> None:
    calls = calls_of(clock, lines, idle_seconds=60.0)
    for name in ("a", "b"):
        await calls.open(key(name), HEADERS, "", OFFER)
        lines[-1].on_open()
    clock.time += 59.0
    lines[0].on_text('{"type":"session.ping"}')  # type: ignore[attr-defined]
    clock.time += 2.0
    calls.sweep(clock.time)
    async with asyncio.timeout(60):
        while not lines[1].closed:  # noqa: ASYNC110 - it is closed in a few turns of the loop
            await asyncio.sleep(0)
    assert [line.closed for line in lines] == [False, True]
    await calls.close()
    assert calls.library.streams.counts.calls == {"idle": 1, "shutdown": 1}


async def test_only_its_key_hangs_up(clock: Clock, lines: list[Line]) -> None:
    calls = calls_of(clock, lines)
    call_id, answer = await calls.open(key("a"), HEADERS, "", OFFER)
    assert answer.encode() == OFFER
    assert process_of_call(call_id) == 0
    for owner in ("b", ""):
        with pytest.raises(NotFound):
            calls.hang_up(call_id, owner)
    calls.hang_up(call_id, "a")
    await calls.close()
    assert lines[0].closed


async def test_where_nothing_is_installed(clock: Clock, lines: list[Line]) -> None:
    ready = calls_of(clock, lines)
    calls = Calls(ready.settings, ready._relay, ready.library, Lines(None, "install it"))
    with pytest.raises(WebrtcUnavailable, match="install it"):
        await calls.open(None, HEADERS, "", OFFER)


def test_a_burst_and_then_a_rate() -> None:
    rates = OfferRates(2.0, 3)
    assert [rates.wait("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.wait("b", 0.0) == 0.0
    assert rates.wait("a", 0.25) == 0.25
    assert rates.wait("a", 0.5) == 0.0
    rates.sweep(0.6)
    assert len(rates) == 1, "who could send a burst again is forgotten"
    rates.sweep(10.0)
    assert len(rates) == 0
