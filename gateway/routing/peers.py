"""What gateways in front of one fleet tell each other: where a request went, and when its prefill ended.

Without it every gateway sees only its own requests: it sends a conversation's next turn to a worker that has
not seen the last one, and joins queues that it cannot see. Sans I/O; `peer_sockets` carries the bytes.
Nothing waits for it: a lost message is a prefix that is not known, or a request that counts for `FORGET_S`.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from gateway.routing.estimate import Work
from gateway.routing.fingerprint import BOUNDS, MAX_CHUNKS, Fingerprint
from gateway.routing.fleet import Worker, is_loopback
from gateway.routing.state import WorkerState

VERSION: Final = 2
FORGET_S: Final = 60.0
"""A peer's request without an end is no longer counted after this long."""
OUTBOX: Final = 10_000
"""News kept for the next `drain`; older ones are dropped."""
ITEMS: Final = 16
"""Items of one message: applying them takes a fraction of a millisecond."""
COUNTED: Final = 50_000
"""Requests of peers that are counted at a time; more are known as prefixes only."""
MOST_MEDIA: Final = 4096


class Routed(msgspec.Struct, tag=0, array_like=True, gc=False):
    """A request was sent to a worker. `hashes` are those of a Fingerprint, 8 bytes each, little-endian."""

    key: int
    worker: str
    """Its `place`."""
    new: int
    cached: int
    head_bytes: int
    body_bytes: int
    hashes: bytes
    media: tuple[tuple[int, int], ...]


class Prefilled(msgspec.Struct, tag=1, array_like=True, gc=False):
    """It has its first token, or has ended without one."""

    key: int
    answered: bool


class News(msgspec.Struct, array_like=True, gc=False):
    """One message."""

    version: int
    sender: str
    items: list[Routed | Prefilled]


_decoder = msgspec.msgpack.Decoder(News)
_encoder = msgspec.msgpack.Encoder()


def this_machine() -> str:
    """Tells machines, and containers with a network of their own, apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot}"


def place(worker: Worker, machine: str) -> str:
    """What the worker is called among gateways: its URL, and where that is a loopback also the machine.

    Ids will not do, since two gateways that start workers both have a `worker-0`.
    """
    return f"{worker.url} at {machine}" if is_loopback(worker.host) else worker.url


class PeerExchange:
    """Collects this process's news and applies those of others; `states` are the router's."""

    def __init__(
        self, name: str, states: Callable[[], Iterable[WorkerState]], machine: str | None = None
    ) -> None:
        self.name = name
        self._states = states
        self._machine = this_machine() if machine is None else machine
        self._at: dict[str, WorkerState] = {}
        self._place_of: dict[str, str] = {}
        self._outbox: list[Routed | Prefilled] = []
        self._counted: dict[tuple[str, int], tuple[WorkerState, float]] = {}
        self._heard: dict[str, float] = {}
        self.sent = self.received = self.refused = self.dropped = 0
        """Items; `refused` are messages."""
        self.fleet_changed()

    def fleet_changed(self) -> None:
        """Workers joined or left."""
        self._place_of = {state.worker.id: place(state.worker, self._machine) for state in self._states()}
        self._at = {self._place_of[state.worker.id]: state for state in self._states()}

    def heard(self, now: float) -> int:
        """Gateways that had something to say in the last FORGET_S."""
        self._heard = {name: at for name, at in self._heard.items() if now - at < FORGET_S}
        return len(self._heard)

    def routed(self, key: int, worker_id: str, work: Work, cached: int, prompt: Fingerprint) -> None:
        """A request of this process was sent to a worker."""
        hashes = array("Q", prompt.hashes).tobytes()
        head, body = prompt.head_bytes, prompt.body_bytes
        at = self._place_of[worker_id]
        self._put(Routed(key, at, work.new, cached, head, body, hashes, prompt.media))

    def prefilled(self, key: int, answered: bool) -> None:
        """Its first token came, or it ended without."""
        self._put(Prefilled(key, answered))

    def _put(self, item: Routed | Prefilled) -> None:
        if len(self._outbox) >= OUTBOX:
            self._outbox.clear()
            self.dropped += OUTBOX
        self._outbox.append(item)

    def drain(self) -> bytes | None:
        """The oldest news that were not told yet, as one message; None when there are no more."""
        items = self._outbox[:ITEMS]
        if not items:
            return None
        del self._outbox[:ITEMS]
        self.sent += len(items)
        return _encoder.encode(News(VERSION, self.name, items))

    def receive(self, message: bytes, now: float) -> None:
        """Apply a peer's message. One that is our own is ignored; one that cannot be read is refused."""
        try:
            news = _decoder.decode(message)
        except msgspec.DecodeError:
            self.refused += 1
            return
        if news.sender == self.name and news.version == VERSION:
            return
        if news.version != VERSION or len(news.items) > ITEMS or not all(map(_is_sound, news.items)):
            self.refused += 1
            return
        self.received += len(news.items)
        self._heard[news.sender] = now
        for item in news.items:
            if isinstance(item, Routed):
                self._apply_routed(news.sender, item, now)
            else:
                self._apply_prefilled((news.sender, item.key), item.answered, now)
        self.expire(now)

    def expire(self, now: float) -> None:
        """Stop counting requests whose end was never told, as when a peer died."""
        while self._counted:
            key, (state, until) = next(iter(self._counted.items()))
            if until > now:
                return
            del self._counted[key]
            state.queue.cancel(key, now)

    def _apply_routed(self, sender: str, item: Routed, now: float) -> None:
        state = self._at.get(item.worker)
        if state is None:
            return
        prompt = Fingerprint.of(list(array("Q", item.hashes)), item.head_bytes, item.body_bytes, item.media)
        state.cache.touch(prompt, state.cache.depth(prompt))
        key = (sender, item.key)
        if key not in self._counted and len(self._counted) < COUNTED:
            state.queue.add(key, Work.of(item.new, item.cached, end_seen=True), now)
            self._counted[key] = state, now + FORGET_S

    def _apply_prefilled(self, key: tuple[str, int], answered: bool, now: float) -> None:
        state, _ = self._counted.pop(key, (None, 0.0))
        if state is None:
            return
        if answered:
            state.queue.done(key, now)
        else:
            state.queue.cancel(key, now)


def _is_sound(item: Routed | Prefilled) -> bool:
    """Could a gateway have said so? What it says goes into sums that must not go wrong."""
    if isinstance(item, Prefilled):
        return True
    chunks, rest = divmod(len(item.hashes), 8)
    chunks -= item.head_bytes > 0
    return (
        rest == 0
        and chunks <= MAX_CHUNKS
        and 0 <= item.head_bytes <= BOUNDS[-1]
        and BOUNDS[max(0, chunks)] <= item.body_bytes <= BOUNDS[-1]
        and 0 <= item.new <= 2 * BOUNDS[-1]
        and 0 <= item.cached <= 2 * BOUNDS[-1]
        and len(item.media) <= MOST_MEDIA
        and all(0 <= start <= end <= item.body_bytes for start, end in item.media)
    )
