"""A TCP proxy that keeps every byte between a gateway and its worker."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

import pytest

_READ = 1 << 16


@dataclass
class Recorded:
    """What went over one connection since the last look."""

    sent: bytearray = field(default_factory=bytearray)
    """By the gateway."""
    answered: bytearray = field(default_factory=bytearray)
    """By the worker."""


@dataclass(frozen=True)
class Answer:
    """A parsed HTTP answer; the body is without its framing."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class RecordingProxy:
    """Passes bytes on unchanged, having kept them first: what a client has seen is in the record."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._records: list[Recorded] = []
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def take(self) -> Recorded:
        """What the one inference request since the last call was on the wire; health probes are left out."""
        with self._lock:
            taken = [record for record in self._records if record.sent.startswith(b"POST ")]
            found = [Recorded(record.sent, record.answered) for record in taken]
            for record in taken:
                record.sent, record.answered = bytearray(), bytearray()
        assert len(found) == 1, f"{len(found)} requests reached the worker"
        return found[0]

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            record = Recorded()
            with self._lock:
                self._records.append(record)
                self._sockets += [near, far]
            self._run(self._pass_on, near, far, record, "sent")
            self._run(self._pass_on, far, near, record, "answered")

    def _pass_on(self, source: socket.socket, sink: socket.socket, record: Recorded, side: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_READ):
                with self._lock:
                    getattr(record, side).extend(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class _Replayed:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def parse_answer(data: bytes) -> Answer:
    """Read an answer by the standard library's HTTP, which shares no code with the gateway."""
    response = HTTPResponse(_Replayed(data))  # type: ignore[arg-type]
    response.begin()
    headers = [(name.lower(), value) for name, value in response.getheaders()]
    return Answer(response.status, headers, response.read())


def address_of(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


@dataclass
class Wire:
    """A gateway behind which every byte is seen."""

    sluice: Any
    proxy: RecordingProxy
    model: str

    def exchange(self, request: bytes) -> tuple[Answer, Recorded]:
        """Send `request` as it is, read to the end; the answer and what the worker's side was."""
        with socket.create_connection(address_of(self.sluice.url), timeout=300) as connection:
            connection.sendall(request)
            data = b""
            while piece := connection.recv(_READ):
                data += piece
        return parse_answer(data), self.proxy.take()


@pytest.fixture(scope="session")
def wire(sluice: Any, model: str, start_sluice: Callable[..., Any]) -> Iterator[Wire]:
    """Another gateway before the worker of `sluice`, with a recording proxy between them."""
    proxy = RecordingProxy(address_of(sluice.worker_urls()[0]))
    other = start_sluice("--worker-url", proxy.url, "--alias", f"other-name={model}", engine=sluice.engine)
    try:
        yield Wire(other, proxy, model)
    finally:
        other.stop()
        proxy.close()


@pytest.fixture(scope="session")
def answer_of() -> Callable[[bytes], Answer]:
    """`parse_answer`, for tests."""
    return parse_answer
