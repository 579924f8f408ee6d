"""Frames as files in a directory that any number of processes share.

    <root>/<namespace>/<2 hex digits>/<60 hex digits>.kv     one frame
    <root>/tmp/                                               frames being written
    <root>/usage                                              bytes of all frames (`usage.py`)
    <root>/shares/, <root>/<namespace>/tenant                 whose bytes they are (`shares.py`)
    <root>/users                                              locked (shared) by everyone who has the
    directory open

A frame is written under `tmp/` and renamed, so a file that has its name is whole; the index is the directory
itself. A read renews the file's time of modification: that is how processes tell each other what is in use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count

from cache.frame import HEAD_BYTES, FrameError, head_bytes
from cache.keys import KEY_BYTES, NAMESPACE_BYTES, ChunkKey
from cache.settings import NO_QUOTAS, Owner, Quotas
from cache.tiers.shares import Shares, Tally
from cache.tiers.tier import Bytes, Fault, Found, Frame, Landing
from cache.tiers.usage import Busy, Usage, flock

_SUFFIX = ".kv"
_NAMESPACE_DIGITS = 2 * NAMESPACE_BYTES
_PREFIX_DIGITS = _NAMESPACE_DIGITS + 2
_LEFTOVER_SECONDS = 3600.0
_OPEN_SECONDS = 30.0
_READ = os.O_RDONLY | os.O_CLOEXEC
_BEYOND = bytearray(1)
"""Where the byte after a frame goes, whose only message is that there is one."""
_WOULD_WAIT = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL})
"""What a read that must not wait for the disk says: it would have to, or it cannot be told that."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_GONE = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EROFS, errno.ENODEV, errno.ENXIO})


class FileTier:
    """Bounded by bytes over all processes, and so are tenants' and namespaces' parts of them. Files are
    readable by their owner only: KV tells what was asked."""

    name = "file"
    shared = True

    def __init__(
        self,
        root: str,
        capacity: int,
        *,
        fsync: bool = False,
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        """Opens or makes the directory; alone in it, removes what killed writers left and counts its bytes.

        `quotas` bound tenants and namespaces over all processes. Raises OSError if the directory cannot be
        made or written to.
        """
        self.capacity = capacity
        self._root = os.path.abspath(os.path.expanduser(root))
        self._fsync = fsync
        self._quotas = quotas
        self._tmp = os.path.join(self._root, "tmp")
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        _make_directory(self._tmp)
        self._numbers = count()
        self._stem = os.path.join(self._tmp, f"{os.getpid()}-{time.time_ns():x}-{id(self):x}-")
        self._usage = Usage(os.path.join(self._root, "usage"))
        self._shares = Shares(self._root)
        self._users = os.open(os.path.join(self._root, "users"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._enter()
        except BaseException:
            self.close()
            raise

    def used(self) -> int:
        return self._usage.read()

    def used_by(self) -> dict[Owner, int]:
        return self._shares.all()

    def get(self, keys: Sequence[ChunkKey], landing: Landing, deadline: float) -> list[Fault | None]:
        answers: list[Fault | None] = []
        start = memoryview(bytearray(HEAD_BYTES))
        flags = os.RWF_NOWAIT
        for number, key in enumerate(keys):
            if time.monotonic() >= deadline:
                answers.append(Fault.TIMEOUT)
                continue
            try:
                fd = os.open(self._path(key), _READ)
                try:
                    try:
                        fault = _read(fd, number, landing, start, flags)
                    except OSError as error:
                        if error.errno not in _WOULD_WAIT:
                            raise
                        self._read_ahead(keys[number:])
                        flags = 0
                        fault = _read(fd, number, landing, start, flags)
                    if fault is None:
                        os.utime(fd)
                    answers.append(fault)
                finally:
                    os.close(fd)
            except OSError as error:
                answers.append(_fault(error))
        return answers

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        written: dict[int, str] = {}
        try:
            answers = self._admit(frames, deadline)
        except OSError as error:
            return [_lost(error)] * len(frames)
        admitted = [number for number, fault in enumerate(answers) if fault is None]
        for number in admitted:
            if time.monotonic() >= deadline:
                answers[number] = Fault.TIMEOUT
                continue
            try:
                written[number] = self._write(frames[number])
            except OSError as error:
                answers[number] = _lost(error)
        surplus = Tally()
        for number in admitted:
            if number not in written:
                surplus.add(frames[number].key, frames[number].tenant, frames[number].nbytes)
        published: set[int] = set()
        try:
            with self._usage.locked(deadline):
                for number, path in written.items():
                    frame = frames[number]
                    surplus.add(frame.key, frame.tenant, self._publish(path, frame.key))
                    published.add(number)
                    self._shares.claim(_namespace(frame.key), frame.tenant)
                self._take_off(surplus)
        except OSError as error:
            for number, path in written.items():
                if number not in published:
                    answers[number] = _lost(error)
                    _remove(path)
        return answers

    def delete(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        answers: list[int | Fault] = []
        try:
            with self._usage.locked(deadline):
                freed = Tally()
                for key in keys:
                    answers.append(answer := self._unlink(self._path(key)))
                    if not isinstance(answer, Fault):
                        freed.add(key, self._shares.owner(_namespace(key)), answer)
                self._take_off(freed)
        except OSError as error:
            answers += [_fault(error)] * (len(keys) - len(answers))
        return answers

    def contains(self, keys: Sequence[ChunkKey], deadline: float) -> list[Found | Fault]:
        answers: list[Found | Fault] = []
        for key in keys:
            if time.monotonic() >= deadline:
                answers.append(Fault.TIMEOUT)
                continue
            try:
                status = os.stat(self._path(key))
            except OSError as error:
                answers.append(_fault(error))
            else:
                answers.append(Found(key, status.st_size, status.st_mtime))
        return answers

    def scan(self, deadline: float) -> Iterator[Found]:
        for path, name in self._files():
            if time.monotonic() >= deadline:
                return
            try:
                status = os.stat(path)
                key = ChunkKey(bytes.fromhex(name))
            except (OSError, ValueError):  # removed meanwhile, or not ours
                continue
            if len(key) == KEY_BYTES:
                owner = self._shares.owner(name[:_NAMESPACE_DIGITS])
                yield Found(key, status.st_size, status.st_mtime, owner)

    def close(self) -> None:
        self._usage.close()
        os.close(self._users)

    def _path(self, key: ChunkKey) -> str:
        name = key.hex()
        namespace, shard = name[:_NAMESPACE_DIGITS], name[_NAMESPACE_DIGITS:_PREFIX_DIGITS]
        return f"{self._root}/{namespace}/{shard}/{name[_PREFIX_DIGITS:]}{_SUFFIX}"

    def _files(self) -> Iterator[tuple[str, str]]:
        """Paths of all frames with their keys in hexadecimal; directories that vanish are passed over."""
        for namespace in _directories(self._root):
            if len(namespace.name) != _NAMESPACE_DIGITS:
                continue
            for shard in _directories(namespace.path):
                try:
                    names = os.listdir(shard.path)
                except OSError:
                    continue
                for name in names:
                    if name.endswith(_SUFFIX):
                        yield f"{shard.path}/{name}", namespace.name + shard.name + name.removesuffix(_SUFFIX)

    def _read_ahead(self, keys: Sequence[ChunkKey]) -> None:
        """Have the disk fetch many files at once: one after the other takes twice as long and more."""
        for key in keys:
            with suppress(OSError):  # whoever reads it finds out
                fd = os.open(self._path(key), _READ)
                try:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(fd)

    def _admit(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        """Count the bytes of the frames that fit; None for those."""
        answers: list[Fault | None] = []
        with self._usage.locked(deadline):
            used = self._usage.read()
            added = Tally()
            for frame in frames:
                fault: Fault | None = Fault.FULL
                if used + added.total + frame.nbytes <= self.capacity:
                    fault = self._shares.refuses(frame, self._quotas, added)
                if fault is None:
                    added.add(frame.key, frame.tenant, frame.nbytes)
                answers.append(fault)
            if added.total:
                self._usage.write(used + added.total)
                self._shares.add(added.by_owner)
        return answers

    def _take_off(self, freed: Tally) -> None:
        """Count bytes as gone. Under the lock."""
        if freed.total:
            self._usage.write(self._usage.read() - freed.total)
            self._shares.add({owner: -nbytes for owner, nbytes in freed.by_owner.items()})

    def _write(self, frame: Frame) -> str:
        path = f"{self._stem}{next(self._numbers)}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                _write_all(fd, [memoryview(frame.head), frame.payload.data])
                if self._fsync:
                    os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError:
            _remove(path)
            raise
        return path

    def _publish(self, written: str, key: ChunkKey) -> int:
        """Give a written frame its name; returns the bytes of the one it replaced. Under the lock."""
        path = self._path(key)
        try:
            replaced = os.stat(path).st_size
        except FileNotFoundError:
            replaced = 0
        try:
            os.rename(written, path)
        except FileNotFoundError:
            shard = os.path.dirname(path)
            _make_directory(os.path.dirname(shard))
            _make_directory(shard)
            os.rename(written, path)
        return replaced

    def _unlink(self, path: str) -> int | Fault:
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except OSError as error:
            return _fault(error)
        return size

    def _enter(self) -> None:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            alone = False
        else:
            alone = True
        with self._usage.locked(time.monotonic() + _OPEN_SECONDS):
            self._sweep(0.0 if alone else _LEFTOVER_SECONDS)
            if alone:
                sizes: Counter[str] = Counter()
                for path, name in self._files():
                    sizes[name[:_NAMESPACE_DIGITS]] += _size(path)
                self._usage.write(sizes.total())
                self._shares.recount(sizes)
        flock(self._users, fcntl.LOCK_SH, time.monotonic() + _OPEN_SECONDS)

    def _sweep(self, older_than: float) -> None:
        """Remove what killed writers left."""
        for entry in os.scandir(self._tmp):
            try:
                if entry.stat().st_mtime <= time.time() - older_than:
                    os.unlink(entry.path)
            except OSError:  # its writer has just finished
                continue


def _namespace(key: ChunkKey) -> str:
    return key[:NAMESPACE_BYTES].hex()


def _directories(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(path))
    except OSError:
        return
    yield from (entry for entry in entries if entry.is_dir(follow_symlinks=False))


def _make_directory(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, mode=0o700)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _read(fd: int, number: int, landing: Landing, start: memoryview, flags: int) -> Fault | None:
    """Read one frame; `start` is room for the beginning of its head, `flags` are `preadv2`'s."""
    room = landing.room(number)
    whole = HEAD_BYTES + room.nbytes
    # Head and payload in one call: most payloads are raw, and then they are where they belong.
    size = got = os.preadv(fd, [start, room.data, _BEYOND], 0, flags)
    if got == whole:
        place = landing.place(number, start, whole)
        if place is room:
            return None
        if isinstance(place, Fault):
            return place
    # Encoded, or longer, or only in part where it can be read without waiting.
    return _read_in_parts(fd, number, landing, start, min(size, whole))


def _read_in_parts(fd: int, number: int, landing: Landing, start: memoryview, got: int) -> Fault | None:
    """The same for any frame; its first `got` bytes are in `start` and where `landing` has room for it."""
    room, size = landing.room(number), os.fstat(fd).st_size
    if got < HEAD_BYTES:
        got = os.preadv(fd, [start], 0)
    head = start[:got]
    try:
        length = head_bytes(head)
    except FrameError:
        length = HEAD_BYTES  # the landing says what is wrong with it
    place = landing.place(number, head if length == HEAD_BYTES else os.pread(fd, length, 0), size)
    if isinstance(place, Fault):
        return place
    read = got - HEAD_BYTES if place is room and length == HEAD_BYTES else 0
    return None if _read_into(fd, place[read:], length + read) else Fault.TORN


def _read_into(fd: int, place: Bytes, offset: int) -> bool:
    """Fill `place` from the file; False if the file ends before."""
    view = place.data
    while len(view):
        got = os.preadv(fd, [view], offset)
        if not got:
            return False
        view, offset = view[got:], offset + got
    return True


def _write_all(fd: int, parts: list[memoryview]) -> None:
    while parts:
        written = os.writev(fd, parts)
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts and written:
            parts[0] = parts[0][written:]


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # the next sweep takes it
        return


def _lost(error: OSError) -> Fault:
    """Why a frame was not written: something that is not there can only be the directory."""
    fault = _fault(error)
    return Fault.GONE if fault is Fault.ABSENT else fault


def _fault(error: OSError) -> Fault:
    if isinstance(error, Busy):
        return Fault.TIMEOUT
    if isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE:
        return Fault.ABSENT
    if error.errno in _FULL:
        return Fault.FULL
    return Fault.GONE if error.errno in _GONE else Fault.IO
