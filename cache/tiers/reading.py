"""Reading a batch of frames out of files, each of which may hold many."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from cache.frame import HEAD_BYTES, FrameError, head_bytes
from cache.keys import ChunkKey
from cache.tiers import bundle
from cache.tiers.bundle import Bundle, DamagedBundle
from cache.tiers.tier import Bytes, Fault, Landing

_WOULD_WAIT = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL})
"""What a read that must not wait for the disk says: it would have to, or it cannot be told that."""


class Batch:
    """One `get`: frames go from files to where `landing` has room for them.

    Files are read without waiting as long as memory has them; at the first that it lacks, `ahead` is called
    with its number, to have the disk fetch all that is left at once.
    """

    def __init__(self, keys: Sequence[ChunkKey], landing: Landing, ahead: Callable[[int], None]) -> None:
        self._keys = keys
        self._landing = landing
        self._ahead = ahead
        self._flags = os.RWF_NOWAIT
        self._start = memoryview(bytearray(bundle.BLOCK))
        heads = memoryview(bytearray(HEAD_BYTES * min(len(keys), bundle.MOST)))
        self._heads = [heads[at : at + HEAD_BYTES] for at in range(0, len(heads), HEAD_BYTES)]

    def read(self, fd: int, number: int) -> list[Fault | None]:
        """The frame of key `number`, which the file is named by, and as many after it as lie there in order;
        what became of each. Raises OSError."""
        start = self._start[: self._fill(fd, [self._start], 0, number)]
        if len(start) < bundle.BLOCK and self._flags:
            start = self._start[: os.preadv(fd, [self._start], 0)]
        try:
            found = bundle.read(fd, start)
        except DamagedBundle:
            return [Fault.CORRUPT]
        if found is None:
            return [self._read_one(fd, number, 0, os.fstat(fd).st_size)]
        offset = found.offsets.get(self._keys[number])
        if offset is None:
            return [Fault.KEY]
        if self._landing.room(number).nbytes + HEAD_BYTES != found.frame_bytes:
            return [self._read_one(fd, number, offset, found.frame_bytes)]
        return self._read_run(fd, number, found, offset)

    def _read_run(self, fd: int, number: int, found: Bundle, offset: int) -> list[Fault | None]:
        landing, heads, where = self._landing, self._heads, found.offsets.get
        stride, nbytes = found.stride, found.frame_bytes
        padding = memoryview(bytearray(stride - nbytes))
        rooms: list[Bytes] = []
        buffers: list[memoryview] = []
        next_offset = offset
        for at, key in enumerate(self._keys[number : number + len(heads)]):
            if where(key) != next_offset:
                break
            room = landing.room(number + at)
            if room.nbytes + HEAD_BYTES != nbytes:
                break
            rooms.append(room)
            buffers += (heads[at], room.data, padding)
            next_offset += stride
        # A read that brings nothing is the beginning of one that waits, or the end of the file.
        got = self._fill(fd, buffers, offset, number) or os.preadv(fd, buffers, offset)
        complete = (got + len(padding)) // stride
        if not complete:
            return [self._read_one(fd, number, offset, nbytes)]
        answers: list[Fault | None] = []
        for at in range(complete):
            place = landing.place(number + at, heads[at], nbytes)
            if place is not rooms[at]:
                if at:  # it is looked for under its own name: here it may be a hole
                    break
                return [self._read_one(fd, number, offset, nbytes)]
            answers.append(None)
        return answers

    def _read_one(self, fd: int, number: int, offset: int, size: int) -> Fault | None:
        """Read one frame of any kind, of `size` bytes."""
        room, start = self._landing.room(number), self._heads[0]
        whole = HEAD_BYTES + room.nbytes
        # Head and payload in one call: most payloads are raw, and then they are where they belong.
        got = min(self._fill(fd, [start, room.data], offset, number), whole)
        if got < HEAD_BYTES:
            got = os.preadv(fd, [start], offset)
        head = start[: min(got, HEAD_BYTES)]
        try:
            length = head_bytes(head)
        except FrameError:
            length = HEAD_BYTES  # the landing says what is wrong with it
        place = self._landing.place(
            number, head if length == HEAD_BYTES else os.pread(fd, length, offset), size
        )
        if isinstance(place, Fault):
            return place
        read = got - HEAD_BYTES if place is room and length == HEAD_BYTES else 0
        return None if _read_into(fd, place[read:], offset + length + read) else Fault.TORN

    def _fill(self, fd: int, buffers: Sequence[memoryview], offset: int, number: int) -> int:
        """Read what is there without waiting; wait for it if that is nothing."""
        try:
            return os.preadv(fd, buffers, offset, self._flags)
        except OSError as error:
            if not self._flags or error.errno not in _WOULD_WAIT:
                raise
        self._ahead(number)
        self._flags = 0
        return os.preadv(fd, buffers, offset)


def _read_into(fd: int, place: Bytes, offset: int) -> bool:
    """Fill `place` from the file; False if the file ends before."""
    view = place.data
    while len(view):
        got = os.preadv(fd, [view], offset)
        if not got:
            return False
        view, offset = view[got:], offset + got
    return True
