"""The memory tier's bytes: one shared segment cut into slots, each with a seal that says whether it is whole.

The process that owns the store allocates (`Arena`); any process of the same user may map the segment by name
and copy to and from slots (`Segment`). The segment is an anonymous memory file, reached as
`/proc/<pid>/fd/<n>`: it is not bound by the size of /dev/shm, and the kernel frees it when the last process
is gone, however that ended.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import secrets
import struct
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import xxhash

from cache.slabs import Slabs

Bytes = npt.NDArray[np.uint8]

SLOT_HEADER = 64
"""Bytes before each slot: generation (8), bytes sealed (8), xxh3-128 of them (16), unused. A cache line."""
_GENERATION = struct.Struct("<Q")
_SEAL = struct.Struct("<Q16s")
_HEADER = struct.Struct("<QQ16s")
_UNSEALED = bytes(16)
_STAT_BLOCK = 512
_AHEAD_BYTES = 32 << 20
"""Memory is made so far ahead of its first use: what a few prompts fill."""
_MADV_POPULATE_WRITE = 23
"""Linux 5.14; older kernels refuse it, which only leaves the faults where they were."""


class SlotRef(NamedTuple):
    """Where bytes lie. The generation is another one each time a slot is given out: a stale reference is
    noticed."""

    offset: int
    """Of the first data byte in the segment."""
    nbytes: int
    generation: int


class Segment:
    """A mapped arena: read, write, seal and verify slots. Safe from any thread and any process."""

    def __init__(self, name: str, mapping: mmap.mmap) -> None:
        self.name = name
        self._mapping = mapping
        self._bytes: Bytes = np.frombuffer(mapping, dtype=np.uint8)

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Map the arena that another process of this user (or this one) made.

        In the process that made it the mapping is shared: a second one would take a page fault for every page
        again, which costs more than copying it. Elsewhere a thread takes those faults beforehand. Raises
        OSError when that process is gone.
        """
        if (own := _OWN.get(name)) is not None and len(own):
            return own.share()
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            segment = cls(name, _map(fd, status.st_size, prefault=False))
        finally:
            os.close(fd)
        if status.st_blocks * _STAT_BLOCK >= status.st_size:  # the owner has had all of it made
            threading.Thread(target=segment.populate, name="sluice-kv-populate", daemon=True).start()
        return segment

    def share(self) -> Segment:
        """Another user of this mapping, which lives as long as the longest of them."""
        return Segment(self.name, self._mapping)

    def populate(self, first: int = 0, last: int | None = None) -> None:
        """Map every page of bytes `first` to `last`, so that no copy takes page faults. Takes tens of
        milliseconds for each GiB that is there already and up to a second for one that has to be made,
        without the GIL; whoever copies meanwhile is not disturbed."""
        held = self._bytes[first // mmap.PAGESIZE * mmap.PAGESIZE : last]
        if len(held) and _madvise is not None:
            _madvise(held.ctypes.data, len(held), _MADV_POPULATE_WRITE)

    def __len__(self) -> int:
        return len(self._mapping)

    def memory(self, ref: SlotRef) -> Bytes:
        """The slot's bytes, writable, not copied."""
        return self._bytes[ref.offset : ref.offset + ref.nbytes]

    def current(self, ref: SlotRef) -> bool:
        """Whether the slot is still the one that was given out: check before writing, and after copying
        out."""
        (generation,) = _GENERATION.unpack_from(self._mapping, ref.offset - SLOT_HEADER)
        return bool(generation == ref.generation)

    def seal(self, ref: SlotRef, digest: bytes | None = None) -> bytes:
        """Declare the slot's bytes complete; whoever wrote them calls this. Returns their xxh3-128.

        `digest` spares the computation when the caller has verified the bytes against it. Releases the GIL.
        """
        offset, nbytes, generation = ref
        digest = digest or xxhash.xxh3_128_digest(self._bytes[offset : offset + nbytes].data)
        if _GENERATION.unpack_from(self._mapping, offset - SLOT_HEADER)[0] == generation:
            _SEAL.pack_into(self._mapping, offset - SLOT_HEADER + _GENERATION.size, nbytes, digest)
        return digest

    def unseal(self, ref: SlotRef) -> None:
        """Declare the slot's bytes incomplete again: whoever copies them finds that out at the latest when
        they have copied."""
        if self.current(ref):
            _SEAL.pack_into(self._mapping, ref.offset - SLOT_HEADER + _GENERATION.size, 0, _UNSEALED)

    def sealed(self, ref: SlotRef) -> bytes | None:
        """The digest the slot was sealed with, None if it is not complete or no longer the same slot."""
        generation, nbytes, digest = _HEADER.unpack_from(self._mapping, ref.offset - SLOT_HEADER)
        if generation != ref.generation or nbytes != ref.nbytes or digest == _UNSEALED:
            return None
        return bytes(digest)

    def sealed_prefix(self, refs: Sequence[SlotRef]) -> int:
        """How many of the leading slots are complete, and still the same slots."""
        unpack, mapping = _HEADER.unpack_from, self._mapping
        for number, (offset, nbytes, generation) in enumerate(refs):
            found, sealed, digest = unpack(mapping, offset - SLOT_HEADER)
            if found != generation or sealed != nbytes or digest == _UNSEALED:
                return number
        return len(refs)

    def run(self, first: SlotRef, distance: int, count: int) -> Bytes:
        """`count` slots of the size of `first` at equal distances, as [slots, bytes]; writable, not copied.

        Raises ValueError if they do not all lie in the segment.
        """
        last = first.offset + distance * (count - 1)
        if min(first.offset, last) < SLOT_HEADER or max(first.offset, last) + first.nbytes > len(self):
            raise ValueError("slots beyond the end of the arena")
        memory = self._bytes[first.offset :]
        return np.lib.stride_tricks.as_strided(memory, (count, first.nbytes), (distance, 1))

    def verify(self, ref: SlotRef) -> bool:
        """Whether the bytes are those that were sealed. Releases the GIL while hashing."""
        offset, nbytes, generation = ref
        header = _HEADER.unpack_from(self._mapping, offset - SLOT_HEADER)
        if header[:2] != (generation, nbytes) or header[2] == _UNSEALED:
            return False
        digest = xxhash.xxh3_128_digest(self._bytes[offset : offset + nbytes].data)
        return digest == header[2] and self.current(ref)

    def close(self) -> None:
        """Give the mapping back; views that are still held keep it alive until they go."""
        self._bytes = np.empty(0, dtype=np.uint8)
        try:
            self._mapping.close()
        except BufferError:  # somebody holds a view: the mapping goes with it
            return


class Arena(Segment):
    """The owner's side: gives out slots of sizes between `slot_bytes / 32` and `slot_bytes`. Not
    thread-safe."""

    def __init__(self, capacity: int, slot_bytes: int, *, prefault: bool = False) -> None:
        """An arena of at most `capacity` bytes for raw chunks of `slot_bytes`.

        `prefault` takes all of its memory from the system at once. Otherwise that is done as it fills, on
        another thread and some way ahead of what is given out. Raises ValueError if not even one slot fits,
        OSError if the memory cannot be had.
        """
        self.slot_bytes = slot_bytes
        self._slabs = Slabs(capacity, slot_bytes, overhead=SLOT_HEADER)
        self._fd = os.memfd_create("sluice-kv", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._fd, self._slabs.capacity)
            mapping = _map(self._fd, self._slabs.capacity, prefault)
        except BaseException:
            os.close(self._fd)
            raise
        super().__init__(f"/proc/{os.getpid()}/fd/{self._fd}", mapping)
        _OWN[self.name] = self
        self._made = 0
        """Bytes, from the first, whose pages are there or are being made."""
        far = prefault or self._slabs.capacity <= 2 * _AHEAD_BYTES
        self._make_from = self._slabs.capacity if far else 0
        """Giving out a slot beyond it has the next pages made."""
        # A random start: old payload bytes at a header's place never pass for a generation.
        self._generation = secrets.randbits(62)

    @property
    def capacity(self) -> int:
        return self._slabs.capacity

    @property
    def data_bytes(self) -> int:
        """What raw chunks alone may take: the capacity less headers and rounding."""
        return self._slabs.largest_slots * self.slot_bytes

    @property
    def used(self) -> int:
        """Bytes of slots given out, headers and rounding included."""
        return self._slabs.used

    def allocate(self, nbytes: int) -> SlotRef | None:
        """A slot for `nbytes`, unsealed; None if no slot of that size is free.

        Raises ValueError for more than `slot_bytes`.
        """
        start = self._slabs.allocate(nbytes)
        if start is None:
            return None
        self._generation += 1
        _HEADER.pack_into(self._mapping, start, self._generation, 0, _UNSEALED)
        return SlotRef(start + SLOT_HEADER, nbytes, self._generation)

    def allocate_whole(self, count: int) -> list[SlotRef]:
        """Slots for at most `count` raw chunks, unsealed: as many as are free, if those are fewer."""
        refs: list[SlotRef] = []
        generation, mapping, nbytes = self._generation, self._mapping, self.slot_bytes
        for start in self._slabs.allocate_largest(count):
            generation += 1
            _HEADER.pack_into(mapping, start, generation, 0, _UNSEALED)
            refs.append(SlotRef(start + SLOT_HEADER, nbytes, generation))
        self._generation = generation
        if refs and refs[-1].offset > self._make_from:
            self._make_ahead(refs[-1].offset)
        return refs

    def _make_ahead(self, offset: int) -> None:
        first, last = self._made, min(self.capacity, offset + 2 * _AHEAD_BYTES)
        if first < last:
            self._made = last
            self._make_from = last - _AHEAD_BYTES if last < self.capacity else last
            threading.Thread(
                target=self.populate, args=(first, last), name="sluice-kv-populate", daemon=True
            ).start()

    def free(self, ref: SlotRef) -> None:
        """Take a slot back; every reference to it is stale from here on. Raises ValueError if nobody has
        it."""
        self._slabs.free(ref.offset - SLOT_HEADER)
        _HEADER.pack_into(self._mapping, ref.offset - SLOT_HEADER, 0, 0, _UNSEALED)

    def close(self) -> None:
        if _OWN.get(self.name) is self:
            del _OWN[self.name]
        super().close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_OWN: WeakValueDictionary[str, Arena] = WeakValueDictionary()
"""The arenas of this process by name."""


def _find_madvise() -> Any:
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


_madvise = _find_madvise()


def _map(fd: int, size: int, prefault: bool) -> mmap.mmap:
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if prefault else 0)
    return mmap.mmap(fd, size, flags=flags)
