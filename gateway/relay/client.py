"""Where an exchange's answer goes."""

from __future__ import annotations

from typing import Protocol


class Client(Protocol):
    """The connection that a call came from, as its exchange uses it."""

    http11: bool
    keep_alive: bool

    @property
    def peer(self) -> str:
        """Address, for logs."""

    def write(self, data: bytes) -> None: ...

    def answered(self, keep_alive: bool) -> None:
        """The answer is complete; close, or go on with the next request on this connection."""

    def abort(self) -> None:
        """Cut the connection: the only way to tell that a body is not complete."""
