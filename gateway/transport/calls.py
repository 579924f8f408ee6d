"""All calls of one process: who may open how many, and when a silent one is collected."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping

import structlog

from gateway.access.keys import Key
from gateway.errors import GatewayError, NotFound, RateLimited, TooLarge, Unavailable
from gateway.relay.relay import Relay
from gateway.transport.call import Call, new_call_id
from gateway.transport.library import Library
from gateway.transport.lines import CallLine, Lines, Loaded, WebrtcUnavailable, webrtc_lines
from gateway.transport.settings import RealtimeSettings
from gateway.transport.signalling import OFFER_BYTES, cleaned_offer, offer_of
from gateway.transport.streams import owner_of
from gateway.transport.turns import Turns

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 1.0
_LAST_WORDS_SECONDS = 2.0
_ID = re.compile(r"call(\d{1,4})_[A-Za-z0-9_-]{27}")
_CREDENTIALS = ("authorization", "x-api-key")


class OfferRates:
    """A token bucket per caller; full ones are forgotten."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}
        """Tokens left, and when that was so."""

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, caller: str, now: float) -> float:
        """0 if an offer of `caller` may be answered now, and count it; else the seconds until then."""
        left, at = self._buckets.get(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        if left < 1.0:
            return (1.0 - left) / self._per_second if self._per_second else 3600.0
        self._buckets[caller] = left - 1.0, now
        return 0.0

    def sweep(self, now: float) -> None:
        """Forget callers who could send a whole burst again."""
        full = [
            c
            for c, (left, at) in self._buckets.items()
            if left + (now - at) * self._per_second >= self._burst
        ]
        for caller in full:
            del self._buckets[caller]


class Calls:
    """Where `lines` cannot be made, every offer is refused."""

    def __init__(self, settings: RealtimeSettings, relay: Relay, library: Library, lines: Lines) -> None:
        self.settings = settings
        self.library = library
        self._relay = relay
        self._lines = lines
        self._turns = Turns(asyncio.get_running_loop())
        self._calls: dict[str, Call] = {}
        self._opening: dict[str, int] = {}
        """Offers being answered, by caller."""
        self._rates = OfferRates(settings.offers_per_second, settings.offers_burst)
        self._ending: set[asyncio.Task[None]] = set()

    async def unavailable(self) -> tuple[str | None, str | None]:
        """Why there are no calls, and why no packets of Eloquent in them; None for what there is.

        Loads what is needed to tell, which the first offer then finds ready.
        """
        try:
            made = await self._lines.loaded()
        except WebrtcUnavailable as error:
            return error.message, error.message
        return None, made.eloquent_problem

    async def open(
        self, key: Key | None, headers: Mapping[str, str], peer: str, body: bytes
    ) -> tuple[str, str]:
        """Answer an offer: id of the call and SDP. Raises GatewayError."""
        counts = self.library.streams.counts
        try:
            call_id, sdp = await self._open(key, headers, peer, body)
        except GatewayError as error:
            counts.offers[error.code] += 1
            raise
        counts.offers["answered"] += 1
        return call_id, sdp

    async def _open(
        self, key: Key | None, headers: Mapping[str, str], peer: str, body: bytes
    ) -> tuple[str, str]:
        if self._lines.reason:
            raise WebrtcUnavailable(self._lines.reason)
        if len(body) > OFFER_BYTES:
            raise TooLarge(f"An offer has at most {OFFER_BYTES} bytes.")
        caller = owner_of(key) or peer
        self._check_limits(caller)
        offer = cleaned_offer(offer_of(headers.get("content-type", ""), body))
        self._opening[caller] = self._opening.get(caller, 0) + 1
        try:
            made = await self._lines.loaded()
            call, sdp = await self._answer(offer, key, headers, peer, made)
        finally:
            self._opening[caller] -= 1
            if not self._opening[caller]:
                del self._opening[caller]
        self._calls[call.id] = call
        task = asyncio.get_running_loop().create_task(self._collect(call))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return call.id, sdp

    async def _answer(
        self, offer: str, key: Key | None, headers: Mapping[str, str], peer: str, made: Loaded
    ) -> tuple[Call, str]:
        line: CallLine = made.new_line()
        call = Call(
            new_call_id(self.library.siblings.number),
            line,
            key,
            {name: headers[name] for name in _CREDENTIALS if name in headers},
            peer,
            self._relay,
            self.library,
            self.settings,
            self._turns,
            eloquent=made.eloquent_problem is None,
        )
        try:
            return call, await line.answer(offer)
        except BaseException:
            await line.close()
            raise

    def hang_up(self, call_id: str, owner: str) -> None:
        """End a call. Raises NotFound."""
        call = self._calls.get(call_id)
        if call is None or call.owner != owner:
            raise NotFound(
                f"There is no call {call_id[:64]!r}: it has ended, or another API key opened it.",
                code="call_not_found",
                param="call_id",
            )
        call.end("hung_up")

    def sweep(self, now: float) -> None:
        """End calls that did not connect, or have been idle too long."""
        settings = self.settings
        for call in list(self._calls.values()):
            if not call.connected:
                if now - call.created > settings.connect_seconds:
                    call.end("never_connected")
            elif not call.busy and now - call.heard > settings.idle_seconds:
                call.end("idle")
        self._rates.sweep(now)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._turns.sample(time.thread_time(), self._turns.time())
            self.sweep(self._relay.now())

    async def close(self) -> None:
        """Hang up every call, once the streams that have ended were delivered, or after a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                for call in list(self._calls.values()):
                    await call.at_rest()
        for call in self._calls.values():
            call.end("shutdown")
        await asyncio.gather(*self._ending, return_exceptions=True)

    def gauges(self) -> dict[str, int]:
        """For metrics."""
        return {
            "calls": sum(call.connected for call in self._calls.values()),
            "half_open_calls": self._half_open,
        }

    @property
    def _half_open(self) -> int:
        waiting = sum(not call.connected for call in self._calls.values())
        return waiting + sum(self._opening.values())

    def _check_limits(self, caller: str) -> None:
        """The cheapest refusals first: an offer costs some ten milliseconds once it is answered."""
        settings = self.settings
        mine = [call for call in self._calls.values() if (call.owner or call.peer) == caller]
        opening = self._opening.get(caller, 0)
        half_open = sum(not call.connected for call in mine) + opening
        if half_open >= settings.half_open_per_key or len(mine) + opening >= settings.calls_per_key:
            raise RateLimited(
                f"{len(mine) + opening} calls are open already, {half_open} of them not connected yet.",
                code="too_many_calls",
                retry_after=settings.connect_seconds,
            )
        if self._half_open >= settings.half_open or len(self._calls) >= settings.calls:
            raise Unavailable(
                "The gateway has as many calls as it takes; use server-sent events.",
                code="too_many_calls",
                retry_after=settings.connect_seconds,
            )
        wait = self._rates.wait(caller, self._relay.now())
        if wait:
            raise RateLimited("Too many offers in a short time.", code="too_many_offers", retry_after=wait)

    async def _collect(self, call: Call) -> None:
        """Wait for a call's end, then clean up behind it."""
        await call.ended.wait()
        self._calls.pop(call.id, None)
        self.library.streams.counts.calls[call.cause] += 1
        try:
            await call.close()
        except Exception:
            log.exception("a call did not close cleanly", call=call.id)


def process_of_call(call_id: str) -> int | None:
    """Number of the gateway process that has a call, None if it is no such id."""
    found = _ID.fullmatch(call_id)
    return int(found[1]) if found else None


def open_calls(settings: RealtimeSettings, relay: Relay, library: Library) -> Calls:
    """Calls of this process, with WebRTC if it is wanted and installed."""
    return Calls(settings, relay, library, webrtc_lines(settings))
