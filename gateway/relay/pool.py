"""Keep-alive connections to workers. Last in, first out, so that surplus ones grow old and are closed."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Literal

from gateway.relay.upstream import UpstreamConnection
from gateway.routing.fleet import Worker

IDLE_SECONDS = 60.0
"""Idle longer than this, a connection is closed by us rather than raced against the worker's own limit."""

Opened = Callable[[UpstreamConnection | OSError], None]


class Pool:
    """The connections of one gateway process to all workers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, event_limit: int) -> None:
        self._loop = loop
        self._event_limit = event_limit
        self._idle: dict[Worker, deque[UpstreamConnection]] = {}
        """By the record, not its id: a worker that came back under another URL is another worker."""
        self._opening: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None

    def take(self, worker: Worker) -> UpstreamConnection | None:
        """An idle connection to `worker`, or None: then `open` one."""
        idle = self._idle.get(worker)
        while idle:
            connection = idle.pop()
            if connection.alive and connection.generation == worker.generation:
                return connection
            if connection.alive:
                connection.abandon()
        return None

    def open(self, worker: Worker, opened: Opened) -> asyncio.Task[None]:
        """Connect; `opened` gets the connection or the error. Cancelling the task calls nobody."""
        task = self._loop.create_task(self._connect(worker, opened))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _connect(self, worker: Worker, opened: Opened) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: UpstreamConnection(worker, self._event_limit),
                worker.host,
                worker.port,
                ssl=self._tls_context() if worker.tls else None,
                server_hostname=worker.server_name if worker.tls else None,
            )
        except OSError as error:
            opened(error)
        else:
            opened(connection)

    def give_back(self, connection: UpstreamConnection, now: float) -> None:
        if not connection.alive:
            connection.transport.close()
            return
        connection.idle_since = now
        worker = connection.worker
        idle = self._idle.get(worker)
        if idle is None:
            idle = self._idle[worker] = deque()
        idle.append(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; drop what the worker closed."""
        for worker, idle in list(self._idle.items()):
            while idle and (not idle[0].alive or now - idle[0].idle_since > IDLE_SECONDS):
                connection = idle.popleft()
                if connection.alive:
                    connection.abandon()
            if not idle:
                del self._idle[worker]

    def forget(self, event: Literal["joined", "left", "restarted"], worker: Worker) -> None:
        """Fleet listener: connections to a worker that left or was restarted lead nowhere."""
        if event != "joined":
            for connection in self._idle.pop(worker, ()):
                if connection.alive:
                    connection.abandon()

    def close(self) -> None:
        for task in self._opening:
            task.cancel()
        for idle in self._idle.values():
            for connection in idle:
                if connection.alive:
                    connection.abandon()
        self._idle.clear()

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
