"""A TCP link of some rate in front of a server: a token bucket towards the client, no limit the other way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_PIECE = 16 * 1024
_BURST_SECONDS = 0.01
"""How far ahead of its rate the link may be."""

Rate = Callable[[float], float]
"""Bytes per second, `seconds` after `Link.restart`."""


class Link:
    """What a running link is told. All connections share its bucket."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._lock = threading.Lock()
        self._rate: Rate = lambda seconds: 1e12
        self._began = self._free = time.monotonic()

    def restart(self, rate: Rate) -> None:
        """From now on the link has this rate."""
        with self._lock:
            self._rate = rate
            self._began = self._free = time.monotonic()

    def pass_on(self, nbytes: int) -> None:
        """Wait until so many bytes are through."""
        with self._lock:
            now = time.monotonic()
            begin = max(self._free, now - _BURST_SECONDS)
            self._free = begin + nbytes / self._rate(begin - self._began)
            wait = self._free - now
        if wait > 0:
            time.sleep(wait)


@contextmanager
def limited_link(server: str) -> Iterator[Link]:
    """A link to a Unix socket; its port is on 127.0.0.1. Everything is closed at the end."""
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = Link(listener.getsockname()[1])

        def start(run: Callable[..., None], *arguments: object) -> None:
            thread = threading.Thread(target=run, args=arguments, daemon=True)
            threads.append(thread)
            thread.start()

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(server)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.extend((client, upstream))
                start(_pump, client, upstream, None)
                start(_pump, upstream, client, link)

        start(accept)
        try:
            yield link
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for one in opened:
                _hang_up(one)
            for thread in threads:
                thread.join()
            for one in opened:
                one.close()


def _pump(source: socket.socket, sink: socket.socket, link: Link | None) -> None:
    try:
        while data := source.recv(_PIECE):
            if link is not None:
                link.pass_on(len(data))
            sink.sendall(data)
    except OSError:
        pass
    _hang_up(sink)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
