"""Frames in this process's memory, each at its true size: the place for packed chunks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from cache.arena import Arena, SlotRef
from cache.frame import MAX_HEAD_BYTES
from cache.keys import ChunkKey
from cache.tiers.tier import Fault, Found, Frame, Landing, deliver


class MemoryTier:
    """A slab arena of its own. Ends with the process."""

    name = "packed"
    shared = False

    def __init__(self, capacity: int, chunk_bytes: int) -> None:
        """`chunk_bytes`: of a raw chunk, beside which an encoded one is not much larger.

        Raises ValueError if not even one raw frame fits.
        """
        self._largest = chunk_bytes + chunk_bytes // 8 + MAX_HEAD_BYTES
        self._arena = Arena(capacity, self._largest)
        self._frames: dict[ChunkKey, tuple[SlotRef, float]] = {}
        self._lock = threading.Lock()

    @property
    def capacity(self) -> int:
        return self._arena.capacity

    def used(self) -> int:
        return self._arena.used

    def get(self, keys: Sequence[ChunkKey], landing: Landing, deadline: float) -> list[Fault | None]:
        answers: list[Fault | None] = []
        for number, key in enumerate(keys):
            with self._lock:
                held = self._frames.get(key)
                if held is None:
                    answers.append(Fault.ABSENT)
                    continue
                self._frames[key] = (held[0], time.time())
                answers.append(deliver(landing, number, self._arena.memory(held[0]).data))
        return answers

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        return [self._put(frame) for frame in frames]

    def delete(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        with self._lock:
            return [self._delete(key) for key in keys]

    def contains(self, keys: Sequence[ChunkKey], deadline: float) -> list[Found | Fault]:
        answers: list[Found | Fault] = []
        with self._lock:
            for key in keys:
                held = self._frames.get(key)
                answers.append(Fault.ABSENT if held is None else Found(key, held[0].nbytes, held[1]))
        return answers

    def scan(self, deadline: float) -> Iterator[Found]:
        with self._lock:
            frames = list(self._frames.items())
        for key, (ref, used) in frames:
            yield Found(key, ref.nbytes, used)

    def close(self) -> None:
        self._arena.close()

    def _put(self, frame: Frame) -> Fault | None:
        if frame.nbytes > self._largest:
            return Fault.TOO_LARGE
        with self._lock:
            ref = self._arena.allocate(frame.nbytes)
            if ref is None:
                return Fault.FULL
            memory = self._arena.memory(ref)
            memory[: len(frame.head)] = np.frombuffer(frame.head, dtype=np.uint8)
            np.copyto(memory[len(frame.head) :], frame.payload)
            self._delete(frame.key)
            self._frames[frame.key] = (ref, time.time())
        return None

    def _delete(self, key: ChunkKey) -> int | Fault:
        held = self._frames.pop(key, None)
        if held is None:
            return Fault.ABSENT
        self._arena.free(held[0])
        return held[0].nbytes
