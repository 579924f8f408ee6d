"""The bytes of a frequency table."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from cache.codecs.codec import CorruptPayload

SCALE = 4096
"""Sum of the frequencies of a table."""

Frequencies = npt.NDArray[np.uint16]
"""[256], sum SCALE, as `kernels.dispatch.frequencies` makes them."""


def pack(freq: Frequencies) -> bytes:
    """Bytes of a table: escape, first symbol, number of symbols, then their frequencies."""
    used = np.flatnonzero(freq[1:]) + 1
    first, last = (int(used[0]), int(used[-1])) if used.size else (1, 0)
    run = freq[first : last + 1].astype("<u2").tobytes()
    return struct.pack("<HBB", int(freq[0]), first, last - first + 1) + run


def unpack(data: memoryview | bytes, at: int) -> tuple[Frequencies, int]:
    """A table and where the bytes behind it begin; raises CorruptPayload."""
    freq = np.zeros(256, np.uint16)
    if at + 4 > len(data):
        raise CorruptPayload("a frequency table is cut")
    escape, first, number = struct.unpack_from("<HBB", data, at)
    end = at + 4 + 2 * number
    if first < 1 or first + number > 256 or end > len(data):
        raise CorruptPayload("a frequency table does not fit")
    freq[0] = escape
    freq[first : first + number] = np.frombuffer(data[at + 4 : end], "<u2")
    if escape < 1 or int(freq.astype(np.int64).sum()) != SCALE:
        raise CorruptPayload("the frequencies of a table do not add up")
    return freq, end
