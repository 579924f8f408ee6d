"""One answer over whatever paths work: HTTP at once, the data channel when it is open, back by number.

Every path carries the same events with the same numbers. What comes first is taken, what was there already is
dropped, so that switching neither loses nor repeats anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal

import httpx

from gateway.chat.channel import Channel, Followed
from gateway.chat.http import Answer, ChatError, resume

_SILENT_SECONDS = 2.0
"""A data channel that brings nothing for so long, not even empty packets, is given up."""
_RESUMES = 8
_RESUME_PAUSE = 0.25

PathName = Literal["sse", "eloquent"]


@dataclass(slots=True)
class Course:
    """How an answer came; for the line beneath it."""

    paths: list[PathName] = field(default_factory=list)
    """In their order; one entry more than there were switches."""
    troubles: list[str] = field(default_factory=list)
    """Why paths were left."""


class JoinedAnswer:
    """`first` is the POST's response; with a `channel` the answer moves over there when it can."""

    def __init__(self, http: httpx.AsyncClient, first: Answer, channel: asyncio.Task[Channel] | None) -> None:
        self.course = Course(["sse"])
        self._http = http
        self._stream_id = first.stream_id
        self._channel = channel if first.stream_id else None
        self._last = 0
        """Number of the last event given out."""
        self._queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        """Events of all paths; None when some path has ended and the rest must be looked at."""
        self._answer: Answer | None = first
        self._reading = asyncio.ensure_future(self._read(first))
        self._followed: Followed | None = None
        self._moving: asyncio.Task[None] | None = None
        self._by_http = 0
        """Number of the latest event that came over HTTP."""
        self._tasks: list[asyncio.Future[None]] = []

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The data of every event, in order, once. Raises ChatError if the answer cannot be completed."""
        if self._channel is not None:
            self._moving = asyncio.ensure_future(self._move(self._channel))
        try:
            while True:
                item = await self._next()
                if item is None:
                    await self._mend()
                    continue
                number, data = item
                if number != self._last + 1:
                    continue
                self._last = number
                yield data
                if data == b"[DONE]" or data.startswith(b'{"error"'):
                    return
        finally:
            await self._close()

    async def _next(self) -> tuple[int, bytes] | None:
        """The next event of any path, None if the channel fell silent or a path ended."""
        while True:
            followed = self._followed
            if followed is None or self._answer is not None:
                return await self._queue.get()
            silent = asyncio.get_running_loop().time() - followed.heard
            try:
                return await asyncio.wait_for(self._queue.get(), max(0.05, _SILENT_SECONDS - silent))
            except TimeoutError:
                if asyncio.get_running_loop().time() - followed.heard >= _SILENT_SECONDS:
                    self._leave_channel("the data channel fell silent")
                    return None

    async def _read(self, answer: Answer) -> None:
        try:
            async for item in answer.events():
                self._by_http = item[0]
                self._queue.put_nowait(item)
        except httpx.HTTPError as error:
            self.course.troubles.append(f"the connection broke: {error or type(error).__name__}")
        finally:
            if self._answer is answer:
                self._answer = None
                self._queue.put_nowait(None)

    async def _move(self, opening: asyncio.Task[Channel]) -> None:
        """Follow the stream on the channel as soon as that is open, and leave HTTP when it delivers."""
        try:
            channel = await asyncio.shield(opening)
        except ChatError as error:
            self.course.troubles.append(str(error))
            return
        if channel.lost:
            return

        def deliver(number: int, data: bytes) -> None:
            self._queue.put_nowait((number, data))
            if self._answer is not None and number >= self._by_http:
                left, self._answer = self._answer, None
                self.course.paths.append("eloquent")
                self._reading.cancel()
                self._tasks.append(asyncio.ensure_future(left.close()))

        def over(reason: str | None) -> None:
            self._followed = None
            if reason is not None:
                self.course.troubles.append(reason)
            self._queue.put_nowait(None)

        self._followed = channel.follow(self._stream_id, self._last, deliver, over)

    def _leave_channel(self, reason: str) -> None:
        followed, self._followed = self._followed, None
        self.course.troubles.append(reason)
        if followed is not None and self._channel is not None:
            self._channel.result().unfollow(followed)

    async def _mend(self) -> None:
        """If no path is left and the answer is not complete, go on by GET."""
        if self._answer is not None or self._followed is not None or not self._queue.empty():
            return
        if not self._stream_id:
            raise ChatError("; ".join(self.course.troubles) or "the answer broke off")
        for attempt in range(_RESUMES):
            if attempt:
                await asyncio.sleep(_RESUME_PAUSE * 2 ** min(attempt, 4))
            try:
                self._answer = await resume(self._http, self._stream_id, self._last)
            except httpx.HTTPError as error:
                self.course.troubles.append(f"not resumed yet: {error or type(error).__name__}")
                continue
            if self.course.paths[-1] != "sse":
                self.course.paths.append("sse")
            self._reading = asyncio.ensure_future(self._read(self._answer))
            return
        raise ChatError("; ".join(self.course.troubles))

    async def _close(self) -> None:
        self._reading.cancel()
        if self._moving is not None:
            self._moving.cancel()
            self._tasks.append(self._moving)
        for task in (self._reading, *self._tasks):
            with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
                await task
        if self._answer is not None:
            await self._answer.close()
        if self._followed is not None and self._channel is not None and self._channel.done():
            self._channel.result().unfollow(self._followed)
