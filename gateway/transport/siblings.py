"""The processes of one gateway reach each other over Unix sockets, on which each serves the very same API.

A stream or a call lives in one process and its id tells which; what is asked of another one is passed on to
it as it came, key and all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

FORWARDED = "x-sluice-forwarded"
"""Marks what a sibling passed on, so that nothing is passed on twice."""
_NOT_PASSED = frozenset(
    ("host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive", FORWARDED)
)


class Siblings:
    """`number` is this process's own; None as `directory` stands for a gateway of one process."""

    def __init__(self, directory: Path | None, number: int, processes: int) -> None:
        self._directory = directory
        self.number = number
        self.processes = processes if directory is not None else 1
        self._clients: dict[int, httpx.AsyncClient] = {}

    @property
    def own_socket(self) -> str | None:
        """Path of the socket on which this process is to listen."""
        return None if self._directory is None or self.processes < 2 else self._path(self.number)

    def other(self, number: int | None, headers: Mapping[str, str]) -> int | None:
        """The process to ask, if it is another one and the request was not passed on already."""
        if number is None or number == self.number or not 0 <= number < self.processes:
            return None
        return None if FORWARDED in headers else number

    @asynccontextmanager
    async def ask(
        self,
        number: int,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        peer: str = "",
        content: bytes = b"",
    ) -> AsyncIterator[httpx.Response]:
        """Pass a request on to process `number`; its body has not been read. Raises httpx.HTTPError."""
        passed = {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED}
        passed[FORWARDED] = peer or "sibling"
        request = self._client(number).build_request(method, path, headers=passed, content=content)
        response = await self._client(number).send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _client(self, number: int) -> httpx.AsyncClient:
        client = self._clients.get(number)
        if client is None:
            transport = httpx.AsyncHTTPTransport(
                uds=self._path(number), limits=httpx.Limits(max_connections=None)
            )
            timeout = httpx.Timeout(5.0, read=120.0)
            client = httpx.AsyncClient(
                transport=transport, base_url="http://sibling", timeout=timeout, verify=False
            )
            self._clients[number] = client
        return client

    def _path(self, number: int) -> str:
        return f"{self._directory}/front-{number}"
