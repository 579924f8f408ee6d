"""Loopback ports for workers: finding free ones, keeping them, and knowing who listens.

A worker binds its port seconds after the port was chosen. Two things keep that gap harmless: instances of
Sluice reserve their ports by locks on files, and a worker counts as ready only if it is its own process
that listens. The ports lie below the range from which the kernel takes ports for outgoing connections.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

_PROC = Path("/proc")
_LISTENING = "0A"
_SPAN = 2000


class NoFreePortError(OSError):
    """Every port in the searched range is taken."""


def bind_error(host: str, port: int) -> OSError | None:
    """Why a server could not bind this port now; None if it could."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def is_free(host: str, port: int) -> bool:
    """Could a server bind this port now?"""
    return bind_error(host, port) is None


class PortReservations:
    """Ports that other instances of Sluice on this machine leave alone, until `close` or the process ends."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or Path(tempfile.gettempdir()) / f"sluice-ports-{os.getuid()}"
        self._locks: dict[int, IO[bytes]] = {}

    def take(self, host: str, base: int) -> int:
        """The first port from `base` that is free and not reserved. Raises NoFreePortError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for port in range(base, min(base + _SPAN, 65536)):
            if port not in self._locks and self._lock(port):
                if is_free(host, port):
                    return port
                self.release(port)
        raise NoFreePortError(
            f"no free port on {host} from {base} to {base + _SPAN - 1}: set engine.port_base"
        )

    def release(self, port: int) -> None:
        """Let others have it."""
        if lock := self._locks.pop(port, None):
            lock.close()

    def close(self) -> None:
        """Let others have all of them."""
        for port in list(self._locks):
            self.release(port)

    def _lock(self, port: int) -> bool:
        file = (self._directory / str(port)).open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._locks[port] = file
        return True


def port_owner(port: int) -> str | None:
    """`name (pid N)` of a process that listens on `port`, as far as this user may see; None if unknown."""
    sockets = _listening_sockets(port)
    if not sockets:
        return None
    for process in _PROC.iterdir():
        if process.name.isdigit() and _holds(process, sockets):
            try:
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
            except OSError:
                continue
    return None


def group_listens(group: int, port: int) -> bool:
    """Is it a process of group `group` that listens on `port`? True where that cannot be found out."""
    sockets = _listening_sockets(port)
    if not sockets:
        return True
    seen = False
    for process in _PROC.iterdir():
        if not process.name.isdigit() or _group_of(int(process.name)) != group:
            continue
        seen = True
        if _holds(process, sockets):
            return True
    return not seen


def _listening_sockets(port: int) -> Collection[str]:
    """The sockets in state LISTEN on `port`, written as links below /proc/PID/fd show them."""
    found: set[str] = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            rows = (_PROC / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == _LISTENING and int(columns[1].rsplit(":", 1)[1], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return found


def _holds(process: Path, sockets: Collection[str]) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(descriptor) in sockets:
                return True
        except OSError:
            continue
    return False


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
