"""Streams over WebRTC data channels, both ends by aiortc in one process."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import orjson
import pytest

aiortc = pytest.importorskip("aiortc")
from aioice.ice import get_host_addresses  # noqa: E402

from engine_adapter.fake import FakeEngine, Timing  # noqa: E402
from gateway.chat.channel import Channel  # noqa: E402
from gateway.chat.http import ask  # noqa: E402
from gateway.chat.joined import JoinedAnswer  # noqa: E402
from gateway.transport.eloquent import Packetizer, SenderSettings  # noqa: E402
from gateway.transport.settings import RealtimeSettings, StreamSettings  # noqa: E402

from .conftest import CHAT, DONE, PATIENCE, CrankedWorker, House, OpenHouse, token, until  # noqa: E402

pytestmark = pytest.mark.skipif(
    not get_host_addresses(use_ipv4=True, use_ipv6=True),
    reason="this machine has no address but loopback, which ICE does not use",
)

WORDS = [token(f"word{number} ") for number in range(30)]
DATA = [event[6:-2] for event in (*WORDS, DONE)]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a while is no reason to give a path up."""
    settings = SenderSettings(silent_seconds=PATIENCE, overdue_seconds=PATIENCE)
    patient = functools.partial(Packetizer, settings=settings)
    monkeypatch.setattr("gateway.transport.eloquent_sender.Packetizer", patient)
    monkeypatch.setattr("gateway.chat.channel._OPEN_SECONDS", PATIENCE)


@pytest.fixture
async def dial() -> AsyncIterator[Callable[..., Awaitable[tuple[httpx.AsyncClient, Channel]]]]:
    """Open a call to a house: an HTTP client and the channel."""
    async with AsyncExitStack() as stack:

        async def opened(house: House, key: str = "") -> tuple[httpx.AsyncClient, Channel]:
            http = await stack.enter_async_context(house.http(key))
            channel = Channel(http)
            stack.push_async_callback(channel.close)
            await channel.open()
            return http, channel

        yield opened


Dial = Callable[..., Awaitable[tuple[httpx.AsyncClient, Channel]]]


class Followed:
    """What a channel delivers of one stream."""

    def __init__(self, channel: Channel, stream_id: str, after: int = 0) -> None:
        self.numbers: list[int] = []
        self.data: list[bytes] = []
        self.over: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.handle = channel.follow(stream_id, after, self._deliver, self.over.set_result)

    def _deliver(self, number: int, data: bytes) -> None:
        self.numbers.append(number)
        self.data.append(data)

    async def end(self) -> str | None:
        return await asyncio.wait_for(self.over, PATIENCE)


class Control:
    """A client that speaks control messages by hand, without or with a token channel."""

    def __init__(self, *, tokens: bool = False) -> None:
        self.said: list[dict[str, Any]] = []
        self.packets: list[bytes] = []
        self.connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self.channel = self.connection.createDataChannel("oai-events")
        self.channel.on("message", self._hear)
        self.tokens = None
        if tokens:
            self.tokens = self.connection.createDataChannel(
                "tokens.eloquent.v1", ordered=False, maxRetransmits=0
            )
            self.tokens.on("message", self.packets.append)

    def _hear(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.said.append(orjson.loads(message))
        else:
            self.packets.append(message)

    async def open(self, http: httpx.AsyncClient) -> str:
        """Offer by a form; the call's location."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        form = {"sdp": (None, self.connection.localDescription.sdp), "session": (None, '{"model":"fake"}')}
        answer = await http.post("/v1/realtime/calls", files=form)
        assert answer.status_code == 201, answer.text
        assert answer.headers["content-type"] == "application/sdp"
        description = aiortc.RTCSessionDescription(sdp=answer.text, type="answer")
        await self.connection.setRemoteDescription(description)
        await self.told("session.created")
        location: str = answer.headers["location"]
        return location

    def say(self, **message: Any) -> None:
        self.channel.send(orjson.dumps(message).decode())

    async def told(self, kind: str, number: int = 0) -> dict[str, Any]:
        """The message of that kind, waited for."""
        await until(lambda: len([m for m in self.said if m["type"] == kind]) > number)
        return [m for m in self.said if m["type"] == kind][number]


@pytest.fixture
async def control() -> AsyncIterator[Callable[..., Control]]:
    made: list[Control] = []

    def make(**options: Any) -> Control:
        made.append(Control(**options))
        return made[-1]

    yield make
    for one in made:
        await one.connection.close()


async def test_a_kept_stream_arrives_the_same(
    open_house: OpenHouse, worker: CrankedWorker, dial: Dial
) -> None:
    house = await open_house(worker)
    http, channel = await dial(house)
    asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
    await until(lambda: worker.answers)
    worker.say(*WORDS[:10])
    answer = await asking
    whole, later = Followed(channel, answer.stream_id), Followed(channel, answer.stream_id, after=4)
    await until(lambda: len(whole.data) == 10 and len(later.data) == 6)
    worker.say(*WORDS[10:], DONE)
    assert await whole.end() is None
    assert await later.end() is None
    assert whole.data == DATA
    assert later.numbers == list(range(5, 32))
    assert later.data == DATA[4:]
    assert house.streams.counts.resumed == {"eloquent": 1}
    await until(lambda: house.streams.counts.events["eloquent"] == 31 + 27)  # as far as acknowledged
    await answer.close()


async def test_lost_packets_lose_nothing(open_house: OpenHouse, worker: CrankedWorker, dial: Dial) -> None:
    house = await open_house(worker)
    http, channel = await dial(house)
    random_ = random.Random(8)
    channel.drop = lambda packet: random_.random() < 0.4
    asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
    await until(lambda: worker.answers)
    worker.say(WORDS[0])
    answer = await asking
    followed = Followed(channel, answer.stream_id)
    for word in WORDS[1:]:
        worker.say(word)
        await asyncio.sleep(0.01)
    worker.say(DONE)
    assert await followed.end() is None
    assert followed.data == DATA
    await answer.close()


async def test_an_answer_moves_over_and_back(
    open_house: OpenHouse, worker: CrankedWorker, dial: Dial
) -> None:
    house = await open_house(worker)
    http, channel = await dial(house)
    opened = asyncio.get_running_loop().create_future()
    asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
    await until(lambda: worker.answers)
    worker.say(WORDS[0])
    joined = JoinedAnswer(http, await asking, opened)
    got: list[bytes] = []

    async def read() -> None:
        async for data in joined.events():
            got.append(data)  # noqa: PERF401 - it is looked at while it grows

    reading = asyncio.ensure_future(read())
    await until(lambda: len(got) == 1)
    assert joined.course.paths == ["sse"]
    opened.set_result(channel)
    worker.say(*WORDS[1:10])
    await until(lambda: len(got) == 10 and "eloquent" in joined.course.paths)
    channel.drop = lambda packet: True  # the path dies without a word
    worker.say(*WORDS[10:20])
    await until(lambda: len(got) == 20)
    assert joined.course.paths[:3] == ["sse", "eloquent", "sse"]
    worker.say(*WORDS[20:], DONE)
    await asyncio.wait_for(reading, PATIENCE)
    assert got == DATA
    assert not worker.lost


async def test_a_request_over_the_channel(
    open_house: OpenHouse, worker: CrankedWorker, control: Callable[..., Control]
) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        caller = control()
        await caller.open(http)
        body = {k: v for k, v in CHAT.items() if k != "stream"} | {"sluice": {"stream": "detached"}}
        caller.say(type="response.create", event_id="mine", body=body)
        await until(lambda: worker.answers)
        assert worker.bodies == [CHAT]
        worker.say(WORDS[0])
        created = await caller.told("response.created")
        stream_id = created["response"]["id"]
        assert created["client_event_id"] == "mine"
        following = await caller.told("stream.following")
        assert following["transport"] == "events"
        worker.say(*WORDS[1:], DONE)
        done = await caller.told("response.done")
        assert done["response"] == {"id": stream_id, "object": "realtime.response", "status": "completed"}
        assert done["last"] == 31
        events = [m for m in caller.said if m["type"] == "stream.event"]
        assert [m["number"] for m in events] == list(range(1, 32))
        assert "".join(m["event"] for m in events).encode() == b"".join((*WORDS, DONE))
        kept = await http.get(f"/v1/streams/{stream_id}?starting_after=30")
        assert kept.content == b"id: 31\n" + DONE
    await until(lambda: house.records)
    assert house.records[0].end == "ok"


async def test_cancel_over_the_channel(
    open_house: OpenHouse, worker: CrankedWorker, control: Callable[..., Control]
) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        caller = control(tokens=True)
        await caller.open(http)
        caller.say(type="response.create", body=CHAT)
        await until(lambda: worker.answers)
        worker.say(WORDS[0])
        created = await caller.told("response.created")
        assert (await caller.told("stream.following"))["transport"] == "eloquent"
        await until(lambda: caller.packets)
        caller.say(type="stream.unfollow", stream_id=created["response"]["id"])
        caller.say(type="response.cancel", response_id=created["response"]["id"])
        done = await caller.told("response.done")
        assert done["response"]["status"] == "cancelled"
    await until(lambda: worker.lost)
    assert house.records[0].end == "cancelled"


async def test_what_the_engine_refuses(
    open_house: OpenHouse,
    start_engine: Callable[..., Awaitable[FakeEngine]],
    control: Callable[..., Control],
) -> None:
    house = await open_house(await start_engine())
    async with house.http() as http:
        caller = control()
        await caller.open(http)
        caller.say(type="response.create", event_id="a", body=CHAT | {"messages": "none"})
        caller.say(type="response.create", event_id="b", body=CHAT | {"model": "other"})
        caller.say(type="response.create", event_id="c", body=CHAT, path="/v1/nothing")
        caller.say(type="response.create", event_id="d")
        await until(lambda: len(caller.said) == 5)
    errors = {m["client_event_id"]: m["error"] for m in caller.said[1:]}
    assert set(errors) == {"a", "b", "c", "d"}
    assert errors["b"]["code"] == "model_not_found"
    assert errors["a"]["message"]
    assert house.streams.gauges()["running"] == 0


async def test_hostile_messages_and_packets_harm_nobody(
    open_house: OpenHouse, worker: CrankedWorker, dial: Dial, control: Callable[..., Control]
) -> None:
    house = await open_house(worker, keys=("mine", "theirs"))
    http, channel = await dial(house, "mine")
    asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
    await until(lambda: worker.answers)
    worker.say(WORDS[0])
    answer = await asking
    followed = Followed(channel, answer.stream_id)
    await until(lambda: followed.data)

    async with house.http("theirs") as others:
        caller = control(tokens=True)
        await caller.open(others)
        for text in (
            "",
            "{",
            "[]",
            "null",
            '{"type":1}',
            '{"type":"x"}',
            "[" * 5000,
            '{"type":"stream.follow"}',
        ):
            caller.channel.send(text)
        caller.say(type="stream.follow", stream_id=answer.stream_id)
        caller.say(type="response.cancel", response_id=answer.stream_id)
        caller.say(type="stream.follow", stream_id=answer.stream_id, starting_after=-1)
        caller.channel.send('{"type":"stream.follow","starting_after":1%s}' % ("0" * 30))
        await until(lambda: len([m for m in caller.said if m["type"] == "error"]) == 12)
        codes = [m["error"]["code"] for m in caller.said if m["type"] == "error"]
        assert codes.count("stream_not_found") >= 3
        assert caller.tokens is not None
        garbage = random.Random(1)
        for size in (1, 2, 3, 10, 100, 1000):
            caller.tokens.send(garbage.randbytes(size))
        caller.tokens.send(b"\x11\x01\x01\x00\x01\x00\x7f")  # well formed, of a stream that is not there
        caller.tokens.send("text where packets belong")
        channel._tokens.send(b"\x11\x01\xff\x7f\x00\xff\x7f\x00\xff\x7f")  # acknowledges what was never sent
        await until(lambda: house.streams.counts.packets["forged"])
        await until(lambda: house.streams.counts.packets["malformed"])

    worker.say(*WORDS[1:], DONE)
    assert await followed.end() is None
    assert followed.data == DATA
    await answer.close()


async def test_hanging_up(
    open_house: OpenHouse, worker: CrankedWorker, control: Callable[..., Control]
) -> None:
    house = await open_house(worker, keys=("mine", "theirs"))
    async with house.http("mine") as mine, house.http("theirs") as theirs:
        caller = control()
        location = await caller.open(mine)
        foreign = await theirs.delete(location)
        assert foreign.status_code == 404
        assert foreign.json()["error"]["code"] == "call_not_found"
        assert house.calls.gauges() == {"calls": 1, "half_open_calls": 0}
        assert (await mine.delete(location)).status_code == 204
        await until(lambda: caller.channel.readyState == "closed")
        assert (await mine.delete(location)).status_code == 404
        assert (await theirs.get("/v1/realtime")).json()["eloquent"] is True
    assert house.calls.gauges() == {"calls": 0, "half_open_calls": 0}
    assert house.streams.counts.calls == {"hung_up": 1}


async def test_a_reader_on_the_channel_keeps_a_stream_alive_and_its_loss_does_not(
    open_house: OpenHouse, worker: CrankedWorker, dial: Dial
) -> None:
    house = await open_house(worker, streams=StreamSettings(grace_seconds=0.0))
    http, channel = await dial(house)
    asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
    await until(lambda: worker.answers)
    worker.say(WORDS[0])
    answer = await asking
    followed = Followed(channel, answer.stream_id)
    await until(lambda: followed.data)
    await answer.close()
    stream = house.streams.find(answer.stream_id, "")
    assert stream is not None
    await until(lambda: stream.readers == 1)
    worker.say(WORDS[1])
    await until(lambda: len(followed.data) == 2)
    channel.unfollow(followed.handle)
    await until(lambda: worker.lost)
    assert stream.status == "cancelled"


async def test_what_was_said_is_delivered_before_hanging_up(
    open_house: OpenHouse, worker: CrankedWorker, dial: Dial
) -> None:
    house = await open_house(worker)
    http, channel = await dial(house)
    asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
    await until(lambda: worker.answers)
    worker.say(WORDS[0])
    answer = await asking
    followed = Followed(channel, answer.stream_id)
    await until(lambda: followed.data)
    worker.say(*WORDS[1:], DONE)
    await house.quiet()
    await house.calls.close()
    assert await followed.end() is None
    assert followed.data == DATA
    await answer.close()


OFFER = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sctp-port:5000\r\n"
)


@pytest.mark.parametrize(
    ("kind", "offer", "status", "code"),
    [
        ("application/sdp", "", 400, "invalid_sdp"),
        ("application/sdp", "hello", 400, "invalid_sdp"),
        ("application/sdp", "v=0\r\n" * 500, 400, "invalid_sdp"),
        ("application/sdp", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", 400, "invalid_sdp"),
        ("application/sdp", OFFER, 400, "invalid_sdp"),  # neither fingerprint nor ICE
        ("application/sdp", OFFER + "a=fingerprint:sha-256 zz\r\na=ice-ufrag:x\r\n", 400, "invalid_sdp"),
        ("application/sdp", OFFER.replace("5000", "x"), 400, "invalid_sdp"),
        ("application/sdp", "\udcff", 400, "invalid_sdp"),
        ("multipart/form-data; boundary=b", "--b\r\n\r\nx\r\n--b--", 400, "invalid_sdp"),
        ("multipart/form-data", "x", 400, "invalid_sdp"),
        ("application/json", "{}", 415, "unsupported_media_type"),
        ("", "v=0", 415, "unsupported_media_type"),
        ("application/sdp", "v=0\r\n" + "a" * 70_000, 413, "request_too_large"),
    ],
)
async def test_offers_that_are_none(
    open_house: OpenHouse, worker: CrankedWorker, kind: str, offer: str, status: int, code: str
) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        content = offer.encode(errors="surrogateescape")
        answer = await http.post("/v1/realtime/calls", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert house.calls.gauges() == {"calls": 0, "half_open_calls": 0}


async def test_half_open_calls_are_limited_and_collected(
    open_house: OpenHouse, worker: CrankedWorker, control: Callable[..., Control]
) -> None:
    house = await open_house(worker, realtime=RealtimeSettings(half_open_per_key=2))
    connection = control().connection
    await connection.setLocalDescription(await connection.createOffer())
    offer = connection.localDescription.sdp.encode()
    async with house.http() as http:
        headers = {"content-type": "application/sdp"}
        answers = [await http.post("/v1/realtime/calls", content=offer, headers=headers) for _ in range(4)]
    assert [a.status_code for a in answers] == [201, 201, 429, 429]
    assert answers[2].json()["error"]["code"] == "too_many_calls"
    assert int(answers[2].headers["retry-after"]) > 0
    assert house.calls.gauges() == {"calls": 0, "half_open_calls": 2}
    house.calls.sweep(house.relay.now() + 16.0)
    await until(lambda: house.calls.gauges()["half_open_calls"] == 0)
    assert house.streams.counts.calls == {"never_connected": 2}


async def test_ports_and_address_as_set(
    open_house: OpenHouse, worker: CrankedWorker, control: Callable[..., Control]
) -> None:
    settings = RealtimeSettings(udp_ports="42000-42999", advertised_address="198.51.100.7")
    house = await open_house(worker, realtime=settings)
    connection = control().connection
    await connection.setLocalDescription(await connection.createOffer())
    async with house.http() as http:
        answer = await http.post(
            "/v1/realtime/calls",
            content=connection.localDescription.sdp.encode(),
            headers={"content-type": "application/sdp"},
        )
    candidates = [line.split(" ") for line in answer.text.splitlines() if line.startswith("a=candidate:")]
    assert candidates
    assert all(42000 <= int(fields[5]) <= 42999 for fields in candidates)
    assert {fields[4] for fields in candidates if ":" not in fields[4]} == {"198.51.100.7"}


async def test_a_long_answer_of_an_engine_at_speed(
    open_house: OpenHouse, start_engine: Callable[..., Awaitable[FakeEngine]], dial: Dial
) -> None:
    engine = await start_engine(timing=Timing(itl_base_s=0.002), answer_tokens=300)
    house = await open_house(engine)
    http, channel = await dial(house)
    answer = await ask(http, CHAT, keep=True)
    followed = Followed(channel, answer.stream_id)
    by_http = [data async for _, data in answer.events()]
    assert await followed.end() is None
    assert followed.data == by_http
    assert len(by_http) > 300
