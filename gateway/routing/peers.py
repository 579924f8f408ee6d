"""What gateways in front of one fleet tell each other: where a request went, and when its prefill ended.

Without it every gateway sees only its own requests: it sends a conversation's next turn to a worker that has
not seen the last one, and joins queues that it cannot see. Sans I/O; `peer_sockets` carries the bytes.
Nothing waits for it: a lost message is a prefix that is not known, or a request that counts for `FORGET_S`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.routing.estimate import Work
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.state import WorkerState

VERSION: Final = 1
FORGET_S: Final = 60.0
"""A peer's request without an end is no longer counted after this long."""
OUTBOX: Final = 10_000
"""News kept for the next `drain`; older ones are dropped."""


class Routed(msgspec.Struct, tag=0, array_like=True, gc=False):
    """A request was sent to a worker. `hashes` are those of a Fingerprint, 8 bytes each, little-endian."""

    key: int
    worker: str
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


class PeerExchange:
    """Collects this process's news and applies those of others. `state_of` finds a worker's state."""

    def __init__(self, name: str, state_of: Callable[[str], WorkerState | None]) -> None:
        self.name = name
        self._state_of = state_of
        self._outbox: list[Routed | Prefilled] = []
        self._counted: dict[tuple[str, int], tuple[WorkerState, float]] = {}
        self.sent = self.received = self.refused = self.dropped = 0
        """Items; `refused` are messages."""

    def routed(self, key: int, worker_id: str, work: Work, cached: int, prompt: Fingerprint) -> None:
        """A request of this process was sent to a worker."""
        hashes = array("Q", prompt.hashes).tobytes()
        head, body = prompt.head_bytes, prompt.body_bytes
        self._put(Routed(key, worker_id, work.new, cached, head, body, hashes, prompt.media))

    def prefilled(self, key: int, answered: bool) -> None:
        """Its first token came, or it ended without."""
        self._put(Prefilled(key, answered))

    def _put(self, item: Routed | Prefilled) -> None:
        if len(self._outbox) >= OUTBOX:
            self._outbox.clear()
            self.dropped += OUTBOX
        self._outbox.append(item)

    def drain(self) -> bytes | None:
        """What is new since the last call, as one message."""
        if not self._outbox:
            return None
        items, self._outbox = self._outbox, []
        self.sent += len(items)
        return _encoder.encode(News(VERSION, self.name, items))

    def receive(self, message: bytes, now: float) -> None:
        """Apply a peer's message. One that is not of this version, or is our own, is ignored."""
        try:
            news = _decoder.decode(message)
        except msgspec.DecodeError:
            self.refused += 1
            return
        if news.version != VERSION or news.sender == self.name:
            self.refused += news.version != VERSION
            return
        self.received += len(news.items)
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
        state = self._state_of(item.worker)
        if state is None or len(item.hashes) % 8:
            return
        prompt = Fingerprint(list(array("Q", item.hashes)), item.head_bytes, item.body_bytes, item.media)
        state.cache.touch(prompt, state.cache.depth(prompt))
        key = (sender, item.key)
        if key not in self._counted:
            state.queue.add(key, Work(item.new, item.cached, end_seen=True), now)
            self._counted[key] = state, now + FORGET_S

    def _apply_prefilled(self, key: tuple[str, int], answered: bool, now: float) -> None:
        state, _ = self._counted.pop(key, (None, 0.0))
        if state is None:
            return
        if answered:
            state.queue.done(key, now)
        else:
            state.queue.cancel(key, now)
