"""Pins in a directory that processes share: who evicts there looks first whether somebody keeps the chunk.

    <root>/pins/<96 hex digits of the key>/<32 hex digits of the owner>     an empty file

Its time of modification, in the future, is the pin's end: nothing has to be read, and a pin that nobody takes
back ends by itself. Pins outlive the process that set them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b

from cache.keys import ChunkKey


class DirectoryPins:
    """The pins of one directory. Time is wall-clock seconds, the same on all its machines up to their clocks'
    difference. Raises nothing: a pin that cannot be written binds only the process that set it."""

    def __init__(self, root: str, now: float) -> None:
        """Sweeps what has ended by `now`."""
        self._directory = os.path.join(os.path.abspath(os.path.expanduser(root)), "pins")
        with suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            for entry in os.scandir(self._directory):
                self._ends(entry.path, now)

    def pin(self, keys: Iterable[ChunkKey], owner: str, until: float) -> None:
        """Keep chunks for an owner, or move the end of the owner's pins."""
        name = _name(owner)
        for key in keys:
            with suppress(OSError):
                place = self._place(key)
                os.makedirs(place, mode=0o700, exist_ok=True)
                path = f"{place}/{name}"
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.utime(fd, (until, until))
                finally:
                    os.close(fd)

    def unpin(self, keys: Iterable[ChunkKey], owner: str) -> None:
        """End an owner's pins."""
        name = _name(owner)
        for key in keys:
            with suppress(OSError):
                os.unlink(f"{self._place(key)}/{name}")
                os.rmdir(self._place(key))

    def among(self, keys: Iterable[ChunkKey], now: float) -> set[ChunkKey]:
        """Those of the chunks that somebody keeps."""
        return {key for key in keys if self._ends(self._place(key), now)}

    def _ends(self, place: str, now: float) -> bool:
        """Whether any pin of a chunk is left; removes those that have ended."""
        left = False
        try:
            for entry in os.scandir(place):
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime > now:
                        left = True
                    else:
                        os.unlink(entry.path)
            if not left:
                os.rmdir(place)
        except OSError:  # nobody has pinned it, or somebody does just now
            return left
        return left

    def _place(self, key: ChunkKey) -> str:
        return f"{self._directory}/{key.hex()}"


def _name(owner: str) -> str:
    return blake2b(owner.encode(), digest_size=16).hexdigest()
