"""What gateways tell each other, with and without sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from zmq.asyncio import Context, Socket

from engine_adapter.api import WorkerInfo
from gateway.routing.assignment import RouteRequest
from gateway.routing.fleet import Fleet
from gateway.routing.peer_sockets import CurveKeys, PeerEndpoints, PeerError, PeerSockets, endpoints_of
from gateway.routing.peers import FORGET_S, ITEMS, VERSION, News, PeerExchange, Routed, _decoder, _encoder
from gateway.routing.router import Router
from gateway.routing.settings import PeerSettings, RoutingSettings

MakeFleet = Callable[..., Fleet]


def ask(text: str, size: int = 8_192) -> RouteRequest:
    return RouteRequest("m", b"tools", (text.encode() * (size // len(text) + 1))[:size])


class Pair:
    """Two gateways over workers a and b; `post` carries the news."""

    def __init__(self, make_fleet: MakeFleet) -> None:
        self.one, self.other = (Router(make_fleet("a", "b"), RoutingSettings(seed=0)) for _ in range(2))
        for name, router in (("one", self.one), ("other", self.other)):
            router.peers = PeerExchange(name, router.states)

    def post(self, now: float) -> None:
        for sender, receiver in ((self.one, self.other), (self.other, self.one)):
            assert sender.peers is not None
            assert receiver.peers is not None
            if (message := sender.peers.drain()) is not None:
                receiver.peers.receive(message, now)

    def waiting(self, router: Router) -> dict[str, int]:
        return {state.worker.id: len(state.queue) for state in router.states()}


@pytest.fixture
def pair(make_fleet: MakeFleet) -> Pair:
    return Pair(make_fleet)


def test_a_prefix_that_a_peer_routed_is_known(pair: Pair) -> None:
    routed = pair.one.assign(ask("x"), 0.0)
    routed.first_byte(0.1)
    routed.finish(0.2, "ok")
    before = pair.other.assign(ask("x"), 1.0)
    before.finish(1.0, "aborted")
    assert ":hit=0/" in before.reason
    pair.post(1.0)
    again = pair.other.assign(ask("x", 12_288), 300.0)
    assert again.worker.id == routed.worker.id
    assert ":hit=8197/" in again.reason


def test_a_peers_request_counts_as_queue_until_its_first_token(pair: Pair) -> None:
    routed = pair.one.assign(ask("x"), 0.0)
    pair.post(0.0)
    assert pair.waiting(pair.other)[routed.worker.id] == 1
    assert pair.other.assign(ask("y"), 0.01).worker.id != routed.worker.id
    routed.first_byte(0.5)
    pair.post(0.5)
    assert pair.waiting(pair.other)[routed.worker.id] == 0
    routed.finish(0.6, "ok")


def test_a_peers_request_that_ended_without_a_token_is_taken_back(pair: Pair) -> None:
    routed = pair.one.assign(ask("x"), 0.0)
    pair.post(0.0)
    routed.finish(0.5, "aborted")
    pair.post(0.5)
    assert pair.waiting(pair.other) == {"a": 0, "b": 0}


def test_what_a_dead_peer_had_sent_is_forgotten(pair: Pair) -> None:
    pair.one.assign(ask("x"), 0.0)
    pair.post(0.0)
    assert pair.other.peers is not None
    pair.other.peers.expire(FORGET_S - 1)
    assert sum(pair.waiting(pair.other).values()) == 1
    pair.other.peers.expire(FORGET_S + 1)
    assert sum(pair.waiting(pair.other).values()) == 0


def test_workers_that_only_the_peer_has_are_ignored(make_fleet: MakeFleet) -> None:
    small = Router(make_fleet("b"))
    exchange = PeerExchange("small", small.states)
    large = Router(make_fleet("c", "a"))
    large.fleet.update([WorkerInfo("a", "http://127.0.0.1:9001")])
    large.peers = PeerExchange("large", large.states)
    large.assign(ask("x"), 0.0)
    message = large.peers.drain()
    assert message is not None
    exchange.receive(message, 0.0)
    assert (exchange.received, len(small.states()[0].queue)) == (1, 0)


def test_messages_of_another_version_or_of_nobody_are_refused(pair: Pair) -> None:
    exchange = pair.one.peers
    assert exchange is not None
    exchange.receive(b"hello", 0.0)
    exchange.receive(_encoder.encode(News(VERSION + 1, "other", [])), 0.0)
    assert (exchange.refused, exchange.received) == (2, 0)


def test_ones_own_messages_are_not_counted_twice(pair: Pair) -> None:
    pair.one.assign(ask("x"), 0.0)
    assert pair.one.peers is not None
    message = pair.one.peers.drain()
    assert message is not None
    pair.one.peers.receive(message, 0.0)
    assert sum(pair.waiting(pair.one).values()) == 1


@pytest.mark.parametrize(
    ("url", "known"),
    [("http://127.0.0.1:9000", False), ("http://localhost:9000", False), ("http://w:9000", True)],
)
def test_a_loopback_of_another_machine_is_another_worker(url: str, known: bool) -> None:
    """Two machines that start workers of their own both have a `worker-0` at 127.0.0.1."""
    routers = []
    for machine in ("here", "there"):
        fleet = Fleet()
        fleet.update([WorkerInfo("worker-0", url)])
        fleet.workers["worker-0"].models, fleet.workers["worker-0"].health = ("m",), "ready"
        router = Router(fleet)
        router.peers = PeerExchange(machine, router.states, machine)
        routers.append(router)
    routers[0].assign(ask("x"), 0.0)
    assert routers[0].peers is not None
    assert routers[1].peers is not None
    message = routers[0].peers.drain()
    assert message is not None
    routers[1].peers.receive(message, 0.0)
    assert len(routers[1].states()[0].queue) == known


def test_a_worker_that_comes_back_is_found_again(pair: Pair) -> None:
    for router in (pair.one, pair.other):
        router.fleet.update([WorkerInfo("b", "http://127.0.0.1:9001")])
        router.fleet.update(
            [WorkerInfo("b", "http://127.0.0.1:9001"), WorkerInfo("a", "http://127.0.0.1:9000")]
        )
        router.fleet.workers["b"].health = "draining"
        router.fleet.workers["a"].models, router.fleet.workers["a"].health = ("m",), "ready"
    pair.one.assign(ask("x"), 0.0)
    pair.post(0.0)
    assert pair.waiting(pair.other) == {"b": 0, "a": 1}


def test_news_are_told_in_messages_of_bounded_size(pair: Pair) -> None:
    for number in range(ITEMS + 1):
        pair.one.assign(ask(f"x{number}"), 0.0)
    assert pair.one.peers is not None
    sizes = []
    while (message := pair.one.peers.drain()) is not None:
        sizes.append(len(_decoder.decode(message).items))
    assert sizes == [ITEMS, 1]


def a_routed(**change: object) -> Routed:
    return msgspec.structs.replace(
        Routed(
            1, "http://w:1", new=4096, cached=0, head_bytes=0, body_bytes=4096, hashes=bytes(128), media=()
        ),
        **change,
    )


@pytest.mark.parametrize(
    "item",
    [
        a_routed(hashes=bytes(127)),
        a_routed(hashes=bytes(136)),
        a_routed(hashes=bytes(8 * 10_000), body_bytes=1 << 40),
        a_routed(new=-1),
        a_routed(cached=-5),
        a_routed(new=1 << 60),
        a_routed(head_bytes=-1),
        a_routed(media=((5, 2),)),
        a_routed(media=((0, 1 << 50),)),
    ],
)
def test_what_no_gateway_would_say_is_refused_as_a_whole(pair: Pair, item: Routed) -> None:
    exchange = pair.one.peers
    assert exchange is not None
    exchange.receive(_encoder.encode(News(VERSION, "other", [a_routed(), item])), 0.0)
    assert (exchange.refused, exchange.received) == (1, 0)


def test_too_many_items_are_refused(pair: Pair) -> None:
    exchange = pair.one.peers
    assert exchange is not None
    exchange.receive(_encoder.encode(News(VERSION, "other", [a_routed()] * (ITEMS + 1))), 0.0)
    assert (exchange.refused, exchange.received) == (1, 0)


def test_gateways_that_were_heard_lately_are_counted(pair: Pair) -> None:
    pair.one.assign(ask("x"), 0.0)
    pair.post(0.0)
    assert pair.one.peers is not None
    assert pair.other.peers is not None
    assert (pair.one.peers.heard(1.0), pair.other.peers.heard(1.0)) == (0, 1)
    assert pair.other.peers.heard(FORGET_S + 1.0) == 0


SECRET = CurveKeys.derived_from(b"a secret that all of them share!")


@contextlib.asynccontextmanager
async def connected(pair: Pair, one: PeerEndpoints, other: PeerEndpoints) -> AsyncIterator[None]:
    assert pair.one.peers is not None
    assert pair.other.peers is not None
    sockets = [
        PeerSockets(e, at, clock=lambda: 0.0) for e, at in ((pair.one.peers, one), (pair.other.peers, other))
    ]
    async with contextlib.AsyncExitStack() as stack:
        for each in sockets:
            await each.start()
            stack.push_async_callback(each.close)
        yield


async def until_heard(pair: Pair) -> None:
    assert pair.other.peers is not None
    async with asyncio.timeout(60):
        while not pair.other.peers.received:
            pair.one.assign(ask("x"), 0.0)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("keys", [None, SECRET], ids=["plain", "with a secret"])
async def test_over_sockets(pair: Pair, tmp_path: Path, keys: CurveKeys | None) -> None:
    ends = [f"ipc://{tmp_path}/{name}" for name in ("one", "other")]
    one, other = PeerEndpoints((ends[0],), (ends[1],), keys), PeerEndpoints((ends[1],), (ends[0],), keys)
    async with connected(pair, one, other):
        await until_heard(pair)
    assert sum(pair.waiting(pair.other).values()) > 0


@pytest.mark.parametrize("stranger", [None, CurveKeys.derived_from(b"x" * 32)], ids=["no secret", "another"])
async def test_who_does_not_have_the_secret_hears_nothing(
    pair: Pair, make_fleet: MakeFleet, tmp_path: Path, stranger: CurveKeys | None
) -> None:
    """A third gateway that is refused; the two others, which hear each other all the time, are the clock."""
    ends = [f"ipc://{tmp_path}/{name}" for name in ("one", "other", "third")]
    third = Router(make_fleet("a", "b"))
    third.peers = PeerExchange("third", third.states)
    listener = PeerSockets(third.peers, PeerEndpoints((ends[2],), (ends[0],), stranger), clock=lambda: 0.0)
    await listener.start()
    try:
        one = PeerEndpoints((ends[0],), (ends[1], ends[2]), SECRET)
        async with connected(pair, one, PeerEndpoints((ends[1],), (ends[0],), SECRET)):
            for _ in range(5):
                third.assign(ask("forged"), 0.0)
                await until_heard(pair)
                assert pair.other.peers is not None
                pair.other.peers.received = 0
        assert pair.one.peers is not None
        assert (third.peers.received, pair.one.peers.received) == (0, 0)
    finally:
        await listener.close()


async def test_the_pair_of_keys_must_be_held_and_not_only_its_public_half(pair: Pair, tmp_path: Path) -> None:
    """A subscriber that knows the server's key but has another pair of its own is refused."""
    end = f"ipc://{tmp_path}/one"
    other = CurveKeys.derived_from(b"y" * 32)
    assert not SECRET.callback("", other.public)
    assert SECRET.callback("", SECRET.public)
    assert pair.one.peers is not None
    context = Context()
    try:
        subscriber = context.socket(zmq.SUB, socket_class=Socket)
        subscriber.curve_serverkey = SECRET.public
        subscriber.curve_publickey, subscriber.curve_secretkey = other
        subscriber.connect(end)
        subscriber.subscribe(b"")
        at = PeerEndpoints((f"{end}.2",), (end,), SECRET)
        async with connected(pair, PeerEndpoints((end,), (), SECRET), at):
            await until_heard(pair)
            assert not await subscriber.poll(0)
    finally:
        context.destroy(linger=0)


async def test_an_endpoint_that_cannot_be_bound_is_told(pair: Pair) -> None:
    assert pair.one.peers is not None
    with pytest.raises(PeerError, match="cannot use the endpoint ipc:///nowhere/x"):
        await PeerSockets(pair.one.peers, PeerEndpoints(("ipc:///nowhere/x",))).start()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"listen": "127.0.0.1:7000"}, "not a ZMQ endpoint such as ipc:///run/sluice/peer"),
        ({"listen": "tcp://127.0.0.1"}, "not a ZMQ endpoint"),
        ({"listen": "tcp://127.0.0.1:seven"}, "not a ZMQ endpoint"),
        ({"listen": "tcp://10.0.0.2:7000"}, "need a secret_file"),
        ({"listen": "tcp://*:7000"}, "need a secret_file"),
        ({"listen": "ipc:///x", "connect": ("tcp://gateway-2:7000",)}, "need a secret_file"),
        ({"connect": ("ipc:///x",)}, "connect needs listen"),
        ({"listen": "ipc:///x", "interval_s": 0}, "interval_s must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PeerSettings(**settings)


def test_each_process_has_endpoints_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 32 + "\n")
    settings = PeerSettings("tcp://10.0.0.2:7000", ("tcp://10.0.0.3:7000",), str(secret))
    assert endpoints_of(settings, 1, 0, None)[:2] == (("tcp://10.0.0.2:7000",), ("tcp://10.0.0.3:7000",))
    listen, connect, keys = endpoints_of(settings, 2, 1, Path("/run/x"))
    assert listen == ("tcp://10.0.0.2:7001", "ipc:///run/x/gateway-1")
    assert connect == ("tcp://10.0.0.3:7000", "ipc:///run/x/gateway-0")
    assert keys == CurveKeys.derived_from(b"s" * 32)
    assert PeerSettings("ipc:///run/peer").listen_of(2) == "ipc:///run/peer.2"
    assert endpoints_of(PeerSettings(), 1, 0, None) == PeerEndpoints()


@pytest.mark.parametrize(("text", "complaint"), [(None, "cannot read"), ("short", "has 5 characters")])
def test_a_secret_that_cannot_be_used_is_told(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PeerError, match=complaint):
        CurveKeys.from_file(path)
