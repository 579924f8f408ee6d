"""Carries the news of gateways over ZMQ: each publishes its own and subscribes to the others'.

With a secret both directions are CurveZMQ, whose one key pair all gateways derive from it: a subscriber must
know the public key to be answered and prove that it has the private one, and so must the publisher.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import zmq
from zmq.asyncio import Context, Socket
from zmq.auth.asyncio import AsyncioAuthenticator
from zmq.utils import z85

from gateway.routing.peers import PeerExchange
from gateway.routing.settings import PeerSettings

LARGEST_MESSAGE: Final = 1 << 20
"""Bytes; a peer that sends more is disconnected."""
HIGH_WATER_MARK: Final = 512
"""Messages kept for a peer that does not read, or from one that we do not keep up with; more are lost."""
SHORTEST_SECRET: Final = 32


class PeerError(ValueError):
    """Peers cannot be reached as configured; the message says what to change."""


class CurveKeys(NamedTuple):
    """The one key pair of all gateways that share a secret, in Z85."""

    public: bytes
    private: bytes

    @classmethod
    def derived_from(cls, secret: bytes) -> CurveKeys:
        """From a secret that nobody can guess."""
        private = z85.encode(hashlib.blake2b(secret, digest_size=32, person=b"sluice-peers").digest())
        return cls(zmq.curve_public(private), private)

    @classmethod
    def from_file(cls, path: Path) -> CurveKeys:
        """Raises PeerError."""
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            raise PeerError(f"cannot read the peers' secret {path}: {error.strerror}") from error
        if len(secret) < SHORTEST_SECRET:
            raise PeerError(
                f"the peers' secret in {path} has {len(secret)} characters, it needs {SHORTEST_SECRET}: "
                "make one with `openssl rand -hex 32`"
            )
        return cls.derived_from(secret)

    def callback(self, domain: str, key: bytes) -> bool:
        """May who shows this public key connect? (pyzmq's credentials provider)"""
        return key == self.public


class PeerEndpoints(NamedTuple):
    """ZMQ endpoints of one gateway process; `keys` where they are reached over a network."""

    listen: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()
    keys: CurveKeys | None = None


def endpoints_of(
    settings: PeerSettings, processes: int, number: int, socket_dir: Path | None
) -> PeerEndpoints:
    """Those of gateway process `number` of `processes`, which meet each other in `socket_dir`.

    Raises PeerError for a secret that cannot be used.
    """
    listen, connect = [], list(settings.connect)
    if (own := settings.listen_of(number)) is not None:
        listen.append(own)
    if processes > 1 and socket_dir is not None:
        siblings = [f"ipc://{socket_dir}/gateway-{n}" for n in range(processes)]
        listen.append(siblings.pop(number))
        connect += siblings
    secret = settings.secret_file
    keys = None if secret is None else CurveKeys.from_file(Path(secret).expanduser())
    return PeerEndpoints(tuple(listen), tuple(connect), keys)


class PeerSockets:
    """Publishes what `exchange` has to say and feeds it what the others say. `clock` is the router's."""

    def __init__(
        self,
        exchange: PeerExchange,
        endpoints: PeerEndpoints,
        interval_s: float = 0.005,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`interval_s`: how long news wait for company."""
        self._exchange = exchange
        self._endpoints = endpoints
        self._interval_s = interval_s
        self._clock = clock
        self._context: Context | None = None
        self._authenticator: AsyncioAuthenticator | None = None
        self._tasks: Sequence[asyncio.Task[None]] = ()

    async def start(self) -> None:
        """Bind and connect. Raises PeerError when an endpoint cannot be bound."""
        listen, connect, keys = self._endpoints
        context = self._context = Context()
        publisher, subscriber = context.socket(zmq.PUB), context.socket(zmq.SUB)
        publisher.set_hwm(HIGH_WATER_MARK)
        subscriber.set_hwm(HIGH_WATER_MARK)
        subscriber.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
        if keys is not None:
            self._guard(context, publisher, subscriber, keys)
        at = ""
        try:
            for at in listen:
                publisher.bind(at)
            for at in connect:
                subscriber.connect(at)
        except zmq.ZMQError as error:
            await self.close()
            raise PeerError(f"peers: cannot use the endpoint {at}: {error}") from error
        subscriber.subscribe(b"")
        loop = asyncio.get_running_loop()
        self._tasks = (
            loop.create_task(self._publish(publisher), name="gateway-news-out"),
            loop.create_task(self._hear(subscriber), name="gateway-news-in"),
        )

    def _guard(self, context: Context, publisher: Socket, subscriber: Socket, keys: CurveKeys) -> None:
        self._authenticator = AsyncioAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", keys)
        publisher.curve_server = True
        subscriber.curve_serverkey = keys.public
        for socket in (publisher, subscriber):
            socket.curve_publickey, socket.curve_secretkey = keys

    async def close(self) -> None:
        """Stop both directions."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._authenticator is not None:
            self._authenticator.stop()
        if self._context is not None:
            self._context.destroy(linger=0)

    async def _publish(self, socket: Socket) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            while (message := self._exchange.drain()) is not None:
                await socket.send(message)
                await asyncio.sleep(0)

    async def _hear(self, socket: Socket) -> None:
        while True:
            self._exchange.receive(await socket.recv(), self._clock())
            await asyncio.sleep(0)
