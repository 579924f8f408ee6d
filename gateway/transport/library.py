"""Finds a stream wherever it is kept: here, in a sibling process, or in the shared store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import httpx
import msgspec

from gateway.errors import Unavailable
from gateway.transport.counts import Path
from gateway.transport.reader import LocalReader, Reader, checked_start
from gateway.transport.sibling_reader import SiblingReader
from gateway.transport.siblings import Siblings
from gateway.transport.stream import Status
from gateway.transport.streams import Streams, not_found, process_of


class Store(Protocol):
    """A store that several gateways share."""

    async def read(self, stream_id: str, owner: str, after: int, path: Path) -> Reader | None:
        """None if it has no such stream for `owner`. Raises as `checked_start`, and Unavailable."""

    async def cancel(self, stream_id: str, owner: str) -> tuple[Status, int] | None:
        """Tell the gateway that runs it; its status then and its last event."""


class Library:
    """What the API and calls ask for streams."""

    def __init__(self, streams: Streams, siblings: Siblings, store: Store | None = None) -> None:
        self.streams = streams
        self.siblings = siblings
        self._store = store

    async def read(self, stream_id: str, owner: str, after: int, path: Path) -> Reader:
        """A reader of a stream of this process or of the store.

        Raises NotFound, InvalidRequest, StreamTruncated, Unavailable.
        """
        stream = self.streams.find(stream_id, owner)
        if stream is not None:
            checked_start(after, stream.log.first, stream.log.last)
            return LocalReader(self.streams, stream, after, path)
        if self._store is not None and process_of(stream_id) is not None:
            reader = await self._store.read(stream_id, owner, after, path)
            if reader is not None:
                return reader
        raise not_found(stream_id)

    async def cancel(self, stream_id: str, owner: str) -> tuple[Status, int]:
        """End a stream of this process or of the store; status and last number. Raises NotFound."""
        stream = self.streams.find(stream_id, owner)
        if stream is not None:
            self.streams.cancel(stream)
            return stream.status, stream.log.last
        if self._store is not None and process_of(stream_id) is not None:
            found = await self._store.cancel(stream_id, owner)
            if found is not None:
                return found
        raise not_found(stream_id)

    async def read_anywhere(
        self, stream_id: str, owner: str, after: int, path: Path, headers: Mapping[str, str]
    ) -> Reader:
        """As `read`, and of sibling processes, which check the key in `headers` by themselves."""
        sibling = self.siblings.other(process_of(stream_id), {})
        if sibling is None:
            return await self.read(stream_id, owner, after, path)
        return await SiblingReader.open(self, sibling, stream_id, after, path, headers)

    async def cancel_anywhere(
        self, stream_id: str, owner: str, headers: Mapping[str, str]
    ) -> tuple[Status, int]:
        """As `cancel`, and in sibling processes."""
        sibling = self.siblings.other(process_of(stream_id), {})
        if sibling is None:
            return await self.cancel(stream_id, owner)
        try:
            async with self.siblings.ask(sibling, "DELETE", f"/v1/streams/{stream_id}", headers) as answer:
                body = await answer.aread()
        except httpx.HTTPError as error:
            raise Unavailable("The process that runs the stream does not answer.", retry_after=1) from error
        if answer.status_code != 200:
            raise not_found(stream_id)
        ended = msgspec.json.decode(body, type=_Ended)
        return ended.status, ended.last


class _Ended(msgspec.Struct):
    status: Status
    last: int
