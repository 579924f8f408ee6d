"""A worker URL whose name has several addresses is several workers: names are looked up now and then.

An orchestrator's service name answers with all instances that run. The name itself is asked for in `Host` and
TLS, so that name-based servers and certificates go on working.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import structlog

from engine_adapter.api import WorkerInfo
from gateway.routing.fleet import is_loopback

log = structlog.get_logger(__name__)

FIRST_ROUND_SECONDS: Final = 2.0
"""So long a start waits for slow name servers."""
LOOKUP_SECONDS: Final = 30.0

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Name to addresses; raises OSError where there are none."""


async def resolve(name: str) -> list[str]:
    """By the system's resolver, in order. IPv6 only where there is no IPv4: a host that has both is one."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = {(family, str(address[0])) for family, _, _, _, address in found}
    family = socket.AF_INET if any(f == socket.AF_INET for f, _ in addresses) else socket.AF_INET6
    return sorted(address for f, address in addresses if f == family)


def name_of(info: WorkerInfo) -> str | None:
    """The name whose addresses the worker stands for, None where it stands for itself."""
    host = urlsplit(info.url).hostname
    if not info.every_address or host is None or is_loopback(host):
        return None
    try:
        ip_address(host)
    except ValueError:
        return host
    return None


def at_address(info: WorkerInfo, name: str, address: str) -> WorkerInfo:
    """The one of the worker's instances at `address`."""
    parts = urlsplit(info.url)
    login, at, _ = parts.netloc.rpartition("@")
    host = f"[{address}]" if ":" in address else address
    port = "" if parts.port is None else f":{parts.port}"
    return replace(
        info,
        id=f"{info.id}@{address}",
        url=urlunsplit(parts._replace(netloc=f"{login}{at}{host}{port}")),
        server_name=name,
        every_address=False,
    )


class AddressWatcher:
    """Looks up `names()` every `interval` seconds and tells `found` when a name's addresses have changed.

    A name that cannot be looked up keeps the addresses it had. Use it as an async context manager; on entry
    every name has been looked up once, unless that takes too long.
    """

    def __init__(
        self,
        names: Callable[[], set[str]],
        found: Callable[[str, tuple[str, ...]], None],
        interval: float,
        resolve: Resolve = resolve,
    ) -> None:
        self._names = names
        self._found = found
        self._interval = interval
        self._resolve = resolve
        self._known: dict[str, tuple[str, ...]] = {}
        self._failing: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="worker addresses")
        round_done = asyncio.create_task(self.look_up())
        await asyncio.wait([round_done], timeout=FIRST_ROUND_SECONDS)
        if not round_done.done():
            log.warning("names of workers take long to be looked up", names=sorted(self._names()))
            round_done.cancel()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.look_up()

    async def look_up(self) -> None:
        """Every name once."""
        names = self._names()
        for gone in self._known.keys() - names:
            del self._known[gone]
        await asyncio.gather(*map(self._look_up, names))

    async def _look_up(self, name: str) -> None:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                addresses = tuple(await self._resolve(name))
        except (OSError, UnicodeError) as error:
            if name not in self._failing:
                self._failing.add(name)
                log.warning(
                    "the name of a worker cannot be looked up", name=name, error=str(error) or "timeout"
                )
            return
        self._failing.discard(name)
        if addresses and addresses != self._known.get(name):
            log.info("the name of a worker has these addresses", name=name, addresses=addresses)
            self._known[name] = addresses
            self._found(name, addresses)
