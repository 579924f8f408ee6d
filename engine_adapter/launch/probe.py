"""One non-blocking `GET /health`, driven by a selector; small enough to need no HTTP library."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket

_ENOUGH = len(b"HTTP/1.1 200")


class HealthProbe:
    """Ask once. `advance` is called when the socket is ready and returns True/False once it is known."""

    def __init__(self, host: str, port: int, deadline: float) -> None:
        self.deadline = deadline
        self._request = f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
        self._answer = b""
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        code = self.socket.connect_ex((host, port))
        self.refused = code not in (0, errno.EINPROGRESS)
        self.wants = selectors.EVENT_WRITE

    def advance(self) -> bool | None:
        """None: not known yet, wait for `wants`. True: the worker says that it is healthy."""
        try:
            if self.wants == selectors.EVENT_WRITE:
                self.socket.send(self._request)
                self.wants = selectors.EVENT_READ
                return None
            piece = self.socket.recv(256)
        except BlockingIOError:
            return None
        except OSError:
            return False
        self._answer += piece
        if len(self._answer) < _ENOUGH and piece:
            return None
        return self._answer[:_ENOUGH].split(b" ")[1:2] == [b"200"]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()
