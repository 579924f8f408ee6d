"""Makes the processes of one gateway answer with one set of numbers.

Each process replaces a small file of its own in the run directory every second and once more at its end.
Whoever is asked adds the files of the others to its own live numbers. Counters of a process that has
ended stay counted, its gauges do not. Files of ended processes are folded into one, so that a gateway
whose processes keep dying does not fill the directory.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from gateway.telemetry.snapshot import Snapshot, merge

log = structlog.get_logger(__name__)

WRITE_INTERVAL = 1.0
STALE_AFTER = 10.0
"""Seconds. A file that was not renewed for so long says nothing about now."""
_PREFIX, _SUFFIX = "metrics-", ".msgpack"
_FOLDED = f"{_PREFIX}ended{_SUFFIX}"


class ProcessFiles:
    """The file of this process and its siblings' in `folder`; with None this process answers alone."""

    def __init__(self, folder: Path | None, take: Callable[[], Snapshot]) -> None:
        self._folder = folder
        self._take = take
        self._path: Path | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            # A process id may be used again while the gateway runs.
            self._path = folder / f"{_PREFIX}{os.getpid()}-{time.time_ns():x}{_SUFFIX}"
            self._fold_ended(folder)

    def totals(self) -> Snapshot:
        """The numbers of all processes together."""
        own = self._take()
        if self._folder is None:
            return own
        with _locked(self._folder, fcntl.LOCK_SH):
            others = [snapshot for _, snapshot in self._read(self._folder)]
        now = time.time()
        return merge(own, (s if _counts_now(s, now) else s.without_gauges() for s in others))

    async def run(self) -> None:
        """Renew this process's file until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(WRITE_INTERVAL)

    def write(self) -> None:
        if self._path is not None:
            _replace(self._path, self._take())

    def close(self) -> None:
        """Leave the counters to the siblings, at the end of this process."""
        if self._path is not None:
            _replace(self._path, self._take().without_gauges())

    def _read(self, folder: Path) -> Iterator[tuple[Path, Snapshot]]:
        """Siblings' snapshots; a file that cannot be read is left out, and said so."""
        for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            if path == self._path:
                continue
            try:
                yield path, msgspec.msgpack.decode(path.read_bytes(), type=Snapshot)
            except (OSError, msgspec.DecodeError) as error:
                log.warning("numbers of another process cannot be read", file=str(path), error=str(error))

    def _fold_ended(self, folder: Path) -> None:
        with _locked(folder, fcntl.LOCK_EX):
            ended = [
                (path, snapshot)
                for path, snapshot in self._read(folder)
                if not snapshot.processes or not _is_alive(snapshot.pid)
            ]
            if len(ended) > 1:
                first, *others = (snapshot.without_gauges() for _, snapshot in ended)
                _replace(folder / _FOLDED, merge(first, others))
                for path, _ in ended:
                    if path.name != _FOLDED:
                        path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Forget the numbers of an earlier gateway, before the first process of a new one starts."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def _replace(path: Path, snapshot: Snapshot) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(msgspec.msgpack.encode(snapshot))
    temporary.replace(path)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Keeps a reader from counting a file twice while it is being folded."""
    lock = os.open(folder / f".{_PREFIX}lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)


def _counts_now(snapshot: Snapshot, now: float) -> bool:
    return bool(snapshot.processes) and now - snapshot.taken < STALE_AFTER and _is_alive(snapshot.pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
