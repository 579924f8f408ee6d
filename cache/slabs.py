"""Which parts of an arena are free: slabs of equal size, each cut into slots of one size class."""

from __future__ import annotations

from bisect import bisect_left

ALIGNMENT = 64
_CLASSES_PER_OCTAVE = 4
_OCTAVES = 5
_SLOTS_PER_SLAB = 8


class Slabs:
    """A slab allocator over offsets 0 .. capacity. Knows no memory, so tests need none.

    Size classes go from `largest` down to a 32nd of it, four per halving: a slot wastes at most a fifth. A
    slab belongs to one class while any slot in it is taken, and to nobody again when the last is freed.
    """

    def __init__(self, capacity: int, largest: int, *, overhead: int = 0) -> None:
        """`overhead` bytes are added to each slot, before its data.

        Raises ValueError if no slot of size `largest` fits.
        """
        self._overhead = overhead
        self._largest = largest
        self._strides = _strides(largest, overhead)
        stride = self._strides[-1]
        if capacity < stride:
            raise ValueError(f"an arena of {capacity} bytes holds no chunk of {largest}: give it more bytes")
        # Few slabs in a small arena would tie most of it to one size.
        per_slab = max(1, min(_SLOTS_PER_SLAB, capacity // stride // 16))
        self._slab_bytes = per_slab * stride
        count = capacity // self._slab_bytes
        self.capacity = count * self._slab_bytes
        self.largest_slots = count * per_slab
        """How many slots of size `largest` there are room for."""
        self.used = 0
        self._class_of: list[int] = [-1] * count
        self._taken: list[set[int]] = [set() for _ in range(count)]
        self._empty = list(range(count - 1, -1, -1))
        self._free: list[dict[int, None]] = [{} for _ in self._strides]
        """Per class, starts of free slots in slabs of that class; a dict, to take any and drop one by
        name."""

    def allocate(self, nbytes: int) -> int | None:
        """Start of a free slot whose data part has `nbytes` or more, None if there is none."""
        if nbytes > self._largest:
            raise ValueError(f"{nbytes} bytes do not fit a slot of {self._largest}")
        size = bisect_left(self._strides, nbytes + self._overhead)
        free = self._free[size]
        if not free:
            if not self._empty:
                return None
            self._cut(self._empty.pop(), size)
        start, _ = free.popitem()
        self._taken[start // self._slab_bytes].add(start)
        self.used += self._strides[size]
        return start

    def allocate_largest(self, count: int) -> list[int]:
        """Starts of at most `count` free slots of the largest size: all there are if there are fewer."""
        size = len(self._strides) - 1
        free = self._free[size]
        starts: list[int] = []
        while len(starts) < count:
            if not free:
                if not self._empty:
                    break
                self._cut(self._empty.pop(), size)
            start, _ = free.popitem()
            self._taken[start // self._slab_bytes].add(start)
            starts.append(start)
        self.used += len(starts) * self._strides[size]
        return starts

    def free(self, start: int) -> None:
        """Take a slot back. Raises ValueError if nobody has it."""
        slab = start // self._slab_bytes
        taken = self._taken[slab]
        if start not in taken:
            raise ValueError(f"no slot that was given out starts at {start}")
        taken.remove(start)
        size = self._class_of[slab]
        self.used -= self._strides[size]
        free = self._free[size]
        free[start] = None
        if not taken:
            for slot in self._starts(slab, size):
                del free[slot]
            self._class_of[slab] = -1
            self._empty.append(slab)

    def _cut(self, slab: int, size: int) -> None:
        self._class_of[slab] = size
        self._free[size].update(dict.fromkeys(reversed(self._starts(slab, size))))

    def _starts(self, slab: int, size: int) -> range:
        stride = self._strides[size]
        first = slab * self._slab_bytes
        return range(first, first + self._slab_bytes - stride + 1, stride)


def _strides(largest: int, overhead: int) -> list[int]:
    """Bytes per slot of each class, ascending, multiples of the alignment."""
    sizes = {largest}
    for step in range(1, _OCTAVES * _CLASSES_PER_OCTAVE + 1):
        octave, part = divmod(step, _CLASSES_PER_OCTAVE)
        sizes.add(round(largest * (1 - part / (2 * _CLASSES_PER_OCTAVE)) / 2**octave))
    return sorted({-(-(size + overhead) // ALIGNMENT) * ALIGNMENT for size in sizes if size})
