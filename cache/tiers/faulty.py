"""A tier that goes wrong on command: wraps another, for tests and for trying a deployment's behaviour."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Literal

import numpy as np

from cache.frame import FrameError, decode_head, encode_head
from cache.keys import ChunkKey
from cache.settings import Owner
from cache.tiers.tier import Apportioned, Bytes, Fault, Found, Frame, Landing, Tier

Operation = Literal["get", "put", "delete", "contains"]


class Mischief(StrEnum):
    """What happens to one key of one operation instead of what should."""

    TORN_WRITE = "torn write"
    """Half of the frame is stored, and the put answers that all is well."""
    SHORT_READ = "short read"
    """Half of the payload arrives, and the get answers that all is well."""
    FLIPPED_BIT = "flipped bit"
    """One bit of the payload differs, unnoticed by the tier."""
    FLIPPED_HEAD_BIT = "flipped head bit"
    OTHER_LAYOUT = "other layout"
    """An intact frame of another layout."""
    OTHER_KEY = "other key"
    """An intact frame of another tenant."""
    FULL = "full"
    TIMEOUT = "timeout"
    GONE = "gone"
    RAISES = "raises"
    """An exception, which no tier should let out."""
    SLOW = "slow"
    """All is well, after `FaultyTier.slow_seconds`."""
    HANGS = "hangs"
    """Nothing, until `FaultyTier.resume`."""


Script = Callable[[Operation, ChunkKey], Mischief | None]
_ANSWERS = {Mischief.FULL: Fault.FULL, Mischief.TIMEOUT: Fault.TIMEOUT, Mischief.GONE: Fault.GONE}


class FaultyTier:
    """Passes everything on to `inner` except what `script` says of it."""

    def __init__(self, inner: Tier, script: Script, slow_seconds: float = 0.05) -> None:
        self._inner = inner
        self.slow_seconds = slow_seconds
        self._running = threading.Event()
        self._running.set()
        self.script = script

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def capacity(self) -> int | None:
        return self._inner.capacity

    @property
    def shared(self) -> bool:
        return self._inner.shared

    def used(self) -> int:
        return self._inner.used()

    def used_by(self) -> Mapping[Owner, int]:
        return self._inner.used_by() if isinstance(self._inner, Apportioned) else {}

    def resume(self) -> None:
        """Let everything that hangs go on."""
        self._running.set()

    def get(self, keys: Sequence[ChunkKey], landing: Landing, deadline: float) -> list[Fault | None]:
        return [self._get(number, key, landing, deadline) for number, key in enumerate(keys)]

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        return [self._put(frame, deadline) for frame in frames]

    def delete(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        answers: list[int | Fault] = []
        for key in keys:
            fault = self._stop("delete", key)
            answers += [fault] if fault else self._inner.delete([key], deadline)
        return answers

    def contains(self, keys: Sequence[ChunkKey], deadline: float) -> list[Found | Fault]:
        answers: list[Found | Fault] = []
        for key in keys:
            fault = self._stop("contains", key)
            answers += [fault] if fault else self._inner.contains([key], deadline)
        return answers

    def scan(self, deadline: float) -> Iterator[Found]:
        return self._inner.scan(deadline)

    def close(self) -> None:
        self._inner.close()

    def _get(self, number: int, key: ChunkKey, landing: Landing, deadline: float) -> Fault | None:
        mischief = self.script("get", key)
        if fault := self._answer(mischief):
            return fault
        tampered = _Tampered(landing, number, mischief)
        (answer,) = self._inner.get([key], tampered, deadline)
        if answer is None:
            tampered.spoil()
        return answer

    def _put(self, frame: Frame, deadline: float) -> Fault | None:
        mischief = self.script("put", frame.key)
        if fault := self._answer(mischief):
            return fault
        if mischief is Mischief.TORN_WRITE:
            frame = frame._replace(payload=frame.payload[: frame.payload.nbytes // 2])
        (answer,) = self._inner.put([frame], deadline)
        return answer

    def _stop(self, operation: Operation, key: ChunkKey) -> Fault | None:
        return self._answer(self.script(operation, key))

    def _answer(self, mischief: Mischief | None) -> Fault | None:
        if mischief is Mischief.RAISES:
            raise RuntimeError("a tier that raises, as it was told to")
        if mischief is Mischief.HANGS:
            self._running.clear()
            self._running.wait()
        if mischief is Mischief.SLOW:
            time.sleep(self.slow_seconds)
        return _ANSWERS.get(mischief) if mischief is not None else None


class _Tampered:
    """A landing seen through the mischief: changes the head on its way in, the payload after it has come."""

    def __init__(self, landing: Landing, number: int, mischief: Mischief | None) -> None:
        self._landing = landing
        self._number = number
        self._mischief = mischief
        self._payload: Bytes | None = None

    def room(self, _: int) -> Bytes:
        return self._landing.room(self._number)

    def place(self, _: int, head: bytes | memoryview, nbytes: int) -> Bytes | Fault:
        place = self._landing.place(self._number, self._head(bytes(head)), nbytes)
        if not isinstance(place, Fault):
            self._payload = place
        return place

    def spoil(self) -> None:
        payload = self._payload
        if payload is None:
            return
        if self._mischief is Mischief.SHORT_READ:
            payload[payload.nbytes // 2 :] = 0
        if self._mischief is Mischief.FLIPPED_BIT:
            payload[payload.nbytes // 3] ^= np.uint8(16)

    def _head(self, head: bytes) -> bytes:
        if self._mischief is Mischief.FLIPPED_HEAD_BIT:
            return head[:60] + bytes([head[60] ^ 1]) + head[61:]
        try:
            header = decode_head(head)
        except FrameError:
            return head
        if self._mischief is Mischief.OTHER_LAYOUT:
            return encode_head(header._replace(layout=bytes(16)))
        if self._mischief is Mischief.OTHER_KEY:
            return encode_head(header._replace(key=ChunkKey(bytes(16) + header.key[16:])))
        return head
