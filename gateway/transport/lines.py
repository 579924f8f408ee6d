"""Makes the lines of calls, and loads the WebRTC library when somebody first asks for one.

aiortc brings a media library along, ffmpeg and all: tens of megabytes that a gateway without calls can spare.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog

from gateway.errors import GatewayError
from gateway.transport.call import Line
from gateway.transport.settings import RealtimeSettings

log = structlog.get_logger(__name__)

INSTALL = "pip install 'sluice[webrtc]'"


class WebrtcUnavailable(GatewayError):
    status, type, code = 501, "invalid_request_error", "webrtc_unavailable"


class CallLine(Line, Protocol):
    """A line that is opened by an offer."""

    async def answer(self, offer: str) -> str: ...


class Loaded(NamedTuple):
    """What a WebRTC library gives once it is there."""

    new_line: Callable[[], CallLine]
    eloquent_problem: str | None
    """Why packets are not offered, None if they are."""


class Lines:
    """`load` is called once, in a thread, at the first need; None where there are no calls, for `reason`."""

    def __init__(self, load: Callable[[], Loaded] | None, reason: str = "") -> None:
        self.reason = reason
        """Why there are no calls; empty while nothing speaks against them."""
        self._load = load
        self._loading: asyncio.Task[None] | None = None
        self._loaded: Loaded | None = None

    async def loaded(self) -> Loaded:
        """What makes lines, loaded if it was not yet. Raises WebrtcUnavailable."""
        if self._loaded is None and self._load is not None:
            if self._loading is None:
                self._loading = asyncio.get_running_loop().create_task(self._load_in_thread(self._load))
            # Who asked first may go away; the others still wait for it.
            await asyncio.shield(self._loading)
        if self._loaded is None:
            raise WebrtcUnavailable(self.reason)
        return self._loaded

    async def _load_in_thread(self, load: Callable[[], Loaded]) -> None:
        try:
            self._loaded = await asyncio.to_thread(load)
        except Exception as error:
            # Not ImportError alone: libraries that do not fit each other fail with AttributeError and others.
            log.exception("WebRTC is installed but cannot be loaded")
            said = f"{type(error).__name__}: {error}"[:200]
            self.reason = f"WebRTC is installed but cannot be loaded ({said}). Install it again: {INSTALL}"


def webrtc_lines(settings: RealtimeSettings) -> Lines:
    """Lines by WebRTC, if it is wanted and installed. Nothing of it is imported yet."""
    if not settings.enabled:
        return Lines(None, "Calls are switched off (realtime.enabled).")
    if importlib.util.find_spec("aiortc") is None:
        return Lines(None, f"WebRTC is not installed (aiortc): {INSTALL}")
    return Lines(lambda: _load_webrtc(settings))


def _load_webrtc(settings: RealtimeSettings) -> Loaded:
    from gateway.transport import webrtc

    if webrtc.NO_REPAIR is not None:
        log.warning("Eloquent is off: the timers of this aiortc cannot be repaired", reason=webrtc.NO_REPAIR)
    if webrtc.NO_THRIFT is not None:
        log.warning("calls cost more than they need to with this aiortc", reason=webrtc.NO_THRIFT)
    return Loaded(lambda: webrtc.Peer(settings), webrtc.NO_REPAIR)
