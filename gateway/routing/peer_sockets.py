"""Carries the news of gateways over ZMQ: each publishes its own and subscribes to the others'."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import zmq
from zmq.asyncio import Context, Socket

from gateway.routing.peers import PeerExchange


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """ZMQ endpoints, `ipc://` between processes of one machine, `tcp://` between machines.

    The messages hold hashes of prompts, no text. They are not encrypted: keep `tcp://` on a private network.
    """

    listen: str
    peers: tuple[str, ...]
    interval_s: float = 0.005
    """How long news wait for company."""

    def __post_init__(self) -> None:
        for endpoint in (self.listen, *self.peers):
            if "://" not in endpoint:
                raise ValueError(
                    f"routing.peers: {endpoint!r} is not a ZMQ endpoint such as ipc:///run/sluice/0 "
                    "or tcp://10.0.0.2:7000"
                )
        if not self.interval_s > 0:
            raise ValueError(f"routing.peers.interval_s must be above 0, not {self.interval_s}")


class PeerSockets:
    """Publishes what `exchange` has to say and feeds it what the others say. `clock` is the router's."""

    def __init__(
        self, exchange: PeerExchange, settings: PeerSettings, clock: Callable[[], float] = monotonic
    ) -> None:
        self._exchange = exchange
        self._settings = settings
        self._clock = clock
        self._context: Context | None = None
        self._tasks: Sequence[asyncio.Task[None]] = ()

    async def start(self) -> None:
        """Bind and connect. Raises ValueError when the endpoint cannot be bound."""
        context = self._context = Context()
        publisher, subscriber = context.socket(zmq.PUB), context.socket(zmq.SUB)
        try:
            publisher.bind(self._settings.listen)
            for peer in self._settings.peers:
                subscriber.connect(peer)
        except zmq.ZMQError as error:
            context.destroy(linger=0)
            raise ValueError(
                f"routing.peers: cannot listen on {self._settings.listen} or reach "
                f"{', '.join(self._settings.peers)}: {error}"
            ) from error
        subscriber.subscribe(b"")
        loop = asyncio.get_running_loop()
        self._tasks = (
            loop.create_task(self._publish(publisher), name="gateway-news-out"),
            loop.create_task(self._listen(subscriber), name="gateway-news-in"),
        )

    async def close(self) -> None:
        """Stop both directions."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._context is not None:
            self._context.destroy(linger=0)

    async def _publish(self, socket: Socket) -> None:
        while True:
            await asyncio.sleep(self._settings.interval_s)
            if (message := self._exchange.drain()) is not None:
                await socket.send(message)

    async def _listen(self, socket: Socket) -> None:
        while True:
            self._exchange.receive(await socket.recv(), self._clock())
            await asyncio.sleep(0)
