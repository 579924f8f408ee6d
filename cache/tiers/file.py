"""Frames as files in a directory that any number of processes share.

    <root>/<namespace>/<2 hex digits>/<60 hex digits>.kv     a frame, alone or in a bundle (`bundle.py`)
    <root>/tmp/                                               frames being written
    <root>/usage                                              bytes of all frames (`usage.py`)
    <root>/shares/, <root>/<namespace>/tenant                 whose bytes they are (`shares.py`)
    <root>/users                                              locked (shared) by everyone who has the
    directory open

Frames that are saved together are written to one file, which each of them is a name of: hard links. A file is
written under `tmp/` and then linked or renamed, so one that has its name is whole; the index is the directory
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

from cache.keys import NAMESPACE_BYTES, ChunkKey
from cache.settings import NO_QUOTAS, Owner, Quotas
from cache.tiers import bundle, names
from cache.tiers.bundle import DamagedBundle
from cache.tiers.names import Known, Removal
from cache.tiers.reading import Batch
from cache.tiers.shares import Shares, Tally
from cache.tiers.tier import Fault, Found, Frame, Landing
from cache.tiers.usage import Busy, Usage, flock

_LEFTOVER_SECONDS = 3600.0
_OPEN_SECONDS = 30.0
_READ = os.O_RDONLY | os.O_CLOEXEC
_REMOVE = os.O_RDWR | os.O_CLOEXEC
_PARTS = 1024
"""Linux writes as many at once."""
_TRIES = 3
"""Of a read while others replace what it reads."""
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
        self._bundles = bundle.supported(f"{self._stem}try")
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
        batch = Batch(keys, landing, lambda number: self._read_ahead(keys[number:]))
        answers: list[Fault | None] = []
        while (number := len(answers)) < len(keys):
            if time.monotonic() >= deadline:
                answers.append(Fault.TIMEOUT)
                continue
            try:
                answers += self._read(batch, number, names.path_of(self._root, keys[number]))
            except OSError as error:
                answers.append(_fault(error))
        return answers

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        try:
            answers = self._admit(frames, deadline)
        except OSError as error:
            return [_lost(error)] * len(frames)
        admitted = [number for number, fault in enumerate(answers) if fault is None]
        written: dict[int, str] = {}
        for numbers in self._together(frames, admitted):
            if time.monotonic() >= deadline:
                for number in numbers:
                    answers[number] = Fault.TIMEOUT
                continue
            try:
                written.update(dict.fromkeys(numbers, self._write([frames[number] for number in numbers])))
            except OSError as error:
                for number in numbers:
                    answers[number] = _lost(error)
        surplus = Tally()
        for number in admitted:
            if number not in written:
                surplus.add(frames[number].key, frames[number].tenant, frames[number].nbytes)
        published: set[int] = set()
        files = Counter(written.values())
        try:
            with self._usage.locked(deadline):
                for number, path in written.items():
                    frame = frames[number]
                    surplus.add(frame.key, frame.tenant, self._publish(path, frame.key, files[path] > 1))
                    published.add(number)
                    self._shares.claim(_namespace(frame.key), frame.tenant)
                self._take_off(surplus)
        except OSError as error:
            for number in written.keys() - published:
                answers[number] = _lost(error)
        for path, frames_in in files.items():
            if frames_in > 1 or len(published) < len(written):
                _remove(path)
        return answers

    def delete(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        answers: list[int | Fault] = []
        try:
            with self._usage.locked(deadline):
                freed = Tally()
                for key in keys:
                    answers.append(answer := self._unlink(key))
                    if not isinstance(answer, Fault):
                        freed.add(key, self._shares.owner(_namespace(key)), answer)
                self._take_off(freed)
        except OSError as error:
            answers += [_fault(error)] * (len(keys) - len(answers))
        return answers

    def contains(self, keys: Sequence[ChunkKey], deadline: float) -> list[Found | Fault]:
        known = Known()
        answers: list[Found | Fault] = []
        for key in keys:
            if time.monotonic() >= deadline:
                answers.append(Fault.TIMEOUT)
                continue
            try:
                answers.append(Found(key, *known.look(names.path_of(self._root, key), key)))
            except OSError as error:
                answers.append(_fault(error))
            except DamagedBundle:
                answers.append(Fault.CORRUPT)
        return answers

    def scan(self, deadline: float) -> Iterator[Found]:
        known = Known()
        for path, key in names.walk(self._root):
            if time.monotonic() >= deadline:
                return
            with suppress(OSError, DamagedBundle):  # removed meanwhile, or never found to be whole
                yield Found(key, *known.look(path, key), self._shares.owner(_namespace(key)))

    def close(self) -> None:
        self._usage.close()
        os.close(self._users)

    def _read(self, batch: Batch, number: int, path: str) -> list[Fault | None]:
        """Read a frame by its name, and those that follow it in its file."""
        for _ in range(_TRIES):
            fd = os.open(path, _READ)
            try:
                answers = batch.read(fd, number)
                if answers[0] is None:
                    os.utime(fd)
                    break
                # A hole where a frame was: it has been removed, or is in another file by now.
                if os.fstat(fd).st_ino == os.stat(path).st_ino:
                    break
            finally:
                os.close(fd)
        return answers

    def _read_ahead(self, keys: Sequence[ChunkKey]) -> None:
        """Have the disk fetch many files at once: one after the other takes twice as long and more."""
        for key in keys:
            with suppress(OSError):  # whoever reads it finds out
                fd = os.open(names.path_of(self._root, key), _READ)
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

    def _together(self, frames: Sequence[Frame], admitted: Sequence[int]) -> Iterator[list[int]]:
        """Which of the frames share a file."""
        bundles: dict[int, dict[ChunkKey, int]] = {}
        for number in admitted:
            frame = frames[number]
            some = bundles.setdefault(frame.nbytes, {})
            if not self._bundles or not bundle.fits(frame) or frame.key in some:
                yield [number]
                continue
            some[frame.key] = number
            if len(some) == bundle.MOST:
                yield list(some.values())
                some.clear()
        for some in bundles.values():
            if some:
                yield list(some.values())

    def _write(self, frames: Sequence[Frame]) -> str:
        """Write frames to a new file; its path."""
        path = self._name()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                if len(frames) > 1:
                    _write_all(fd, bundle.encode(frames))
                else:
                    _write_all(fd, [memoryview(frames[0].head), frames[0].payload.data])
                if self._fsync:
                    os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError:
            _remove(path)
            raise
        return path

    def _name(self) -> str:
        return f"{self._stem}{next(self._numbers)}"

    def _publish(self, written: str, key: ChunkKey, shared: bool) -> int:
        """Give a written frame its name, beside others if its file is `shared`; returns the bytes of the one
        that it replaced. Under the lock."""
        path = names.path_of(self._root, key)
        try:
            return self._give_name(written, path, key, shared)
        except FileNotFoundError:
            shard = os.path.dirname(path)
            _make_directory(os.path.dirname(shard))
            _make_directory(shard)
            return self._give_name(written, path, key, shared)

    def _give_name(self, written: str, path: str, key: ChunkKey, shared: bool) -> int:
        if shared:
            try:
                os.link(written, path)
            except FileExistsError:
                os.link(written, other := self._name())
                written = other
            else:
                return 0
        with Removal(path, key) as removal:
            os.rename(written, path)
        return removal.nbytes

    def _unlink(self, key: ChunkKey) -> int | Fault:
        path = names.path_of(self._root, key)
        try:
            with Removal(path, key) as removal:
                os.unlink(path)
        except OSError as error:
            return _fault(error)
        return removal.nbytes

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
                sizes = self._count()
                self._usage.write(sizes.total())
                self._shares.recount(sizes)
        flock(self._users, fcntl.LOCK_SH, time.monotonic() + _OPEN_SECONDS)

    def _count(self) -> Counter[str]:
        """Bytes by namespace; what is damaged, and what no name leads to any more, is removed."""
        sizes: Counter[str] = Counter()
        known = Known()
        for path, key in names.walk(self._root):
            try:
                sizes[_namespace(key)] += known.look(path, key)[0]
            except DamagedBundle:
                _remove(path)
            except OSError:
                continue
        known.punch_unnamed()
        return sizes

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


def _make_directory(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, mode=0o700)


def _write_all(fd: int, parts: list[memoryview]) -> None:
    while parts:
        written = os.writev(fd, parts[:_PARTS])
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
