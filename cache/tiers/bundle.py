"""Several frames of one size in one file, so that what was saved together is read with one call.

    0   magic "SLUICEKB"                8
    8   version                         2   little-endian, as all numbers
    10  how many frames                 2
    12  bytes of each frame             4
    16  xxh3-128 of the rest of this    16
    32  the frames' keys               48 each
        zeros up to a multiple of 4096
        the frames, each at a multiple of 4096

Every frame's name in the directory is a hard link to the file: the file system itself frees it with the last
name, and a name never leads nowhere. A frame that is removed before is a hole.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xxhash

from cache.frame import HEAD_BYTES
from cache.keys import KEY_BYTES, ChunkKey
from cache.tiers.tier import Frame

MAGIC = b"SLUICEKB"
VERSION = 1
BLOCK = 4096
"""What frames are aligned to: holes are made of whole blocks."""
MOST = 256
"""Frames in one file: a read of all has three buffers for each, and Linux takes 1024."""
_PREFIX = struct.Struct("<8sHHI16s")
_KEEP_SIZE_AND_PUNCH = 0x01 | 0x02


class DamagedBundle(ValueError):
    """The list of what is in the file is not what was written."""


class Bundle(NamedTuple):
    """Where frames lie in a file."""

    offsets: Mapping[ChunkKey, int]
    frame_bytes: int

    @property
    def stride(self) -> int:
        """From one frame to the next."""
        return aligned(self.frame_bytes)


def aligned(nbytes: int) -> int:
    return -(-nbytes // BLOCK) * BLOCK


def fits(frame: Frame) -> bool:
    """Whether a frame may share a file: it is a raw one, as far as its head's length tells."""
    return len(frame.head) == HEAD_BYTES


def encode(frames: Sequence[Frame]) -> list[memoryview]:
    """The bytes of a file that holds frames of one size and different keys, in parts."""
    keys = b"".join(frame.key for frame in frames)
    nbytes = frames[0].nbytes
    start = _PREFIX.pack(MAGIC, VERSION, len(frames), nbytes, bytes(16))
    start = start[:16] + xxhash.xxh3_128_digest(start[:16] + keys) + keys
    padding = memoryview(bytes(aligned(nbytes) - nbytes))
    parts = [memoryview(start.ljust(aligned(len(start)), b"\0"))]
    for frame in frames:
        parts += [memoryview(frame.head), frame.payload.data]
        if padding:
            parts.append(padding)
    return parts


def read(fd: int, start: bytes | memoryview) -> Bundle | None:
    """What a file holds that begins with `start` (BLOCK bytes, or all if it is shorter); None for a single
    frame, or whatever else is no bundle.

    Raises DamagedBundle, or OSError if more of it cannot be read.
    """
    if len(start) < _PREFIX.size or start[:8] != MAGIC:
        return None
    _, version, count, nbytes, digest = _PREFIX.unpack_from(start)
    end = _PREFIX.size + count * KEY_BYTES
    whole = bytes(start[:end]) if end <= len(start) else os.pread(fd, end, 0)
    keys = whole[_PREFIX.size :]
    if version != VERSION or len(whole) < end or xxhash.xxh3_128_digest(whole[:16] + keys) != digest:
        raise DamagedBundle("the list of a bundle's frames is not whole")
    first, stride = aligned(end), aligned(nbytes)
    offsets = {
        ChunkKey(keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]): first + number * stride
        for number in range(count)
    }
    return Bundle(offsets, nbytes)


def punch(fd: int, offset: int, nbytes: int) -> None:
    """Give a frame's bytes back; they read as zeros from then on. Raises OSError."""
    if _fallocate is None:
        raise OSError("this platform makes no holes in files")
    if _fallocate(fd, _KEEP_SIZE_AND_PUNCH, offset, aligned(nbytes)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def supported(path: str) -> bool:
    """Whether the file system has hard links and holes; `path` is a name to try that with."""
    other = path + "-linked"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, bytes(2 * BLOCK))
        os.link(path, other)
        os.unlink(other)
        punch(fd, BLOCK, BLOCK)
    except OSError:
        return False
    finally:
        os.close(fd)
        os.unlink(path)
    return True


def _find_fallocate() -> Any:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        function = getattr(library, "fallocate64", None) or library.fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


_fallocate = _find_fallocate()
