"""How many bytes a directory holds, agreed on by all processes that use it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_COUNT = struct.Struct("<q")
_POLL_SECONDS = 0.0005


class Busy(TimeoutError):
    """Another process holds the lock past the deadline."""


class Usage:
    """A byte count in a file, changed only under `flock`, which the kernel releases when its holder dies.

    Bytes are added before they are written and taken off after they are removed: whoever is killed in between
    leaves the count too high, never too low, so the bound holds. The next one to open the directory alone
    counts anew.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError if the file cannot be opened."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()

    @contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """Hold the lock of all processes. Raises Busy after the deadline (`time.monotonic`)."""
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Busy("another thread is changing the directory")
        try:
            flock(self._fd, fcntl.LOCK_EX, deadline)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    def read(self) -> int:
        """The count now; without the lock it may be about to change."""
        raw = os.pread(self._fd, _COUNT.size, 0)
        return int(_COUNT.unpack(raw)[0]) if len(raw) == _COUNT.size else 0

    def write(self, count: int) -> None:
        """Set the count. Under the lock."""
        os.pwrite(self._fd, _COUNT.pack(max(0, count)), 0)

    def close(self) -> None:
        os.close(self._fd)


def flock(fd: int, mode: int, deadline: float) -> None:
    """Lock a file, shared or exclusive. Raises Busy if another process keeps it past the deadline."""
    while True:
        try:
            fcntl.flock(fd, mode | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                raise
        else:
            return
        if time.monotonic() >= deadline:
            raise Busy("another process is changing the directory")
        time.sleep(_POLL_SECONDS)
