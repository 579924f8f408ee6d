"""One kept stream: its log, who reads it, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import structlog

from gateway.relay.extras import Mode
from gateway.transport.token_log import TokenLog

if TYPE_CHECKING:
    from gateway.transport.tap import LoggedExchange

log = structlog.get_logger(__name__)

Status = Literal["running", "completed", "failed", "cancelled"]
Listener = Callable[[], None]


class Stream:
    """Lives in one process, the one that relays it. Changed by `Streams` and the tap; readers only look."""

    __slots__ = (
        "created",
        "ended_at",
        "exchange",
        "family",
        "id",
        "idle_since",
        "listeners",
        "log",
        "mode",
        "owner",
        "readers",
        "refusal",
        "status",
    )

    def __init__(self, id_: str, owner: str, family: str, mode: Mode, log: TokenLog, now: float) -> None:
        self.id = id_
        self.owner = owner
        """Id of the API key that made it; empty where none are asked for."""
        self.family = family
        self.mode = mode
        self.log = log
        self.status: Status = "running"
        self.created = now
        self.ended_at = 0.0
        self.idle_since = now
        """Since when nobody reads it; meaningful while `readers` is 0."""
        self.readers = 0
        self.exchange: LoggedExchange | None = None
        """The exchange that fills it, until it has ended and its client has got everything."""
        self.refusal: tuple[int, bytes] | None = None
        """Status and body of an answer that was no stream, where nobody else got it."""
        self.listeners: dict[Listener, None] = {}
        """Called when events came, or the end."""

    @property
    def ended(self) -> bool:
        return self.status != "running"

    def notify(self) -> None:
        for listener in list(self.listeners):
            try:
                listener()
            except Exception:
                # One reader's fault must not end the answer for all others, and for the engine.
                log.exception("a reader of a stream broke", stream=self.id)
                self.listeners.pop(listener, None)
