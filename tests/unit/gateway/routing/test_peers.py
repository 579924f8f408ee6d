"""What gateways tell each other, with and without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.routing.assignment import RouteRequest
from gateway.routing.fleet import Fleet
from gateway.routing.peer_sockets import PeerSettings, PeerSockets
from gateway.routing.peers import FORGET_S, VERSION, News, PeerExchange, _encoder
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings

MakeFleet = Callable[..., Fleet]


def ask(text: str, size: int = 8_192) -> RouteRequest:
    return RouteRequest("m", b"tools", (text.encode() * (size // len(text) + 1))[:size])


class Pair:
    """Two gateways over workers a and b; `post` carries the news."""

    def __init__(self, make_fleet: MakeFleet) -> None:
        self.one, self.other = (Router(make_fleet("a", "b"), RoutingSettings(seed=0)) for _ in range(2))
        for name, router in (("one", self.one), ("other", self.other)):
            router.peers = PeerExchange(name, router.state)

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
    exchange = PeerExchange("small", small.state)
    large = Router(make_fleet("a"))
    large.peers = PeerExchange("large", large.state)
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


async def test_over_sockets(pair: Pair, tmp_path: object) -> None:
    ends = [f"ipc://{tmp_path}/{name}" for name in ("one", "other")]
    assert pair.one.peers is not None
    assert pair.other.peers is not None
    sockets = [
        PeerSockets(pair.one.peers, PeerSettings(ends[0], (ends[1],)), lambda: 0.0),
        PeerSockets(pair.other.peers, PeerSettings(ends[1], (ends[0],)), lambda: 0.0),
    ]
    for each in sockets:
        await each.start()
    try:
        async with asyncio.timeout(10):
            while not pair.other.peers.received:
                pair.one.assign(ask("x"), 0.0)
                await asyncio.sleep(0.01)
    finally:
        for each in sockets:
            await each.close()
    assert sum(pair.waiting(pair.other).values()) > 0


async def test_an_endpoint_that_is_taken_or_none_is_told() -> None:
    with pytest.raises(ValueError, match="ipc:///run/sluice/0"):
        PeerSettings("127.0.0.1:7000", ())
    with pytest.raises(ValueError, match="interval_s"):
        PeerSettings("ipc:///x", (), interval_s=0)
    exchange = PeerExchange("one", lambda _: None)
    with pytest.raises(ValueError, match="cannot listen on ipc:///nowhere/x"):
        await PeerSockets(exchange, PeerSettings("ipc:///nowhere/x", ())).start()
