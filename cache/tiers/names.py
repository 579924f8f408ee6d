"""Names of frames in a directory, and what they lead to: a file of its own, or a place in a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

from cache.keys import KEY_BYTES, NAMESPACE_BYTES, ChunkKey
from cache.tiers import bundle
from cache.tiers.bundle import Bundle, DamagedBundle

_START = 32
"""Bytes that tell a bundle from a frame."""
_SUFFIX = ".kv"
_NAMESPACE_DIGITS = 2 * NAMESPACE_BYTES
_PREFIX_DIGITS = _NAMESPACE_DIGITS + 2


def path_of(root: str, key: ChunkKey) -> str:
    """`<root>/<namespace>/<2 hex digits>/<60 hex digits>.kv`"""
    name = key.hex()
    namespace, shard = name[:_NAMESPACE_DIGITS], name[_NAMESPACE_DIGITS:_PREFIX_DIGITS]
    return f"{root}/{namespace}/{shard}/{name[_PREFIX_DIGITS:]}{_SUFFIX}"


def walk(root: str) -> Iterator[tuple[str, ChunkKey]]:
    """Paths of all frames with their keys; directories that vanish are passed over."""
    for namespace in _directories(root):
        if len(namespace.name) != _NAMESPACE_DIGITS:
            continue
        for shard in _directories(namespace.path):
            try:
                names = os.listdir(shard.path)
            except OSError:
                continue
            for name in names:
                try:
                    key = ChunkKey(bytes.fromhex(namespace.name + shard.name + name.removesuffix(_SUFFIX)))
                except ValueError:  # not ours
                    continue
                if name.endswith(_SUFFIX) and len(key) == KEY_BYTES:
                    yield f"{shard.path}/{name}", key


class Known:
    """Files that were looked into, so that each is only once however many names it has."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, int], tuple[str, Bundle | None, set[ChunkKey]]] = {}

    def look(self, path: str, key: ChunkKey) -> tuple[int, float]:
        """Bytes of the frame of a name, and the wall-clock second of its file's last use.

        Raises OSError, FileNotFoundError if there is none, and DamagedBundle.
        """
        status = os.stat(path)
        file = (status.st_dev, status.st_ino)
        known = self._files.get(file)
        if known is None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                known = self._files[file] = path, bundle.read(fd, os.pread(fd, _START, 0)), set()
            finally:
                os.close(fd)
        _, found, named = known
        if found is None:
            return status.st_size, status.st_mtime
        if key not in found.offsets:
            raise DamagedBundle("a name that leads to a file without its frame")
        named.add(key)
        return found.frame_bytes, status.st_mtime

    def punch_unnamed(self) -> None:
        """Give back what lies in the files and that none of the names looked at leads to."""
        for path, found, named in self._files.values():
            if found is None or len(named) == len(found.offsets):
                continue
            with suppress(OSError):  # it stays until the last name of the file goes
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    for key in found.offsets.keys() - named:
                        bundle.punch(fd, found.offsets[key], found.frame_bytes)
                finally:
                    os.close(fd)


class Removal:
    """Around what takes a name away or gives it to another file: makes a hole where its frame was."""

    def __init__(self, path: str, key: ChunkKey) -> None:
        self._path = path
        self._key = key
        self._fd = -1
        self._offset: int | None = None
        self.nbytes = 0
        """Of the frame that has gone; 0 if there was none, or nobody can tell."""

    def __enter__(self) -> Removal:
        with suppress(FileNotFoundError):
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        if self._fd >= 0:
            try:
                found = bundle.read(self._fd, os.pread(self._fd, _START, 0))
                if found is None:
                    self.nbytes = os.fstat(self._fd).st_size
                elif (offset := found.offsets.get(self._key)) is not None:
                    self.nbytes, self._offset = found.frame_bytes, offset
            except DamagedBundle:
                pass
            except BaseException:
                os.close(self._fd)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd < 0:
            return
        try:
            if error is None and self._offset is not None and os.fstat(self._fd).st_nlink:
                with suppress(OSError):  # the bytes stay until the last name of the file goes
                    bundle.punch(self._fd, self._offset, self.nbytes)
        finally:
            os.close(self._fd)


def _directories(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(path))
    except OSError:
        return
    yield from (entry for entry in entries if entry.is_dir(follow_symlinks=False))
