"""Whose the bytes of a shared directory are: a count for every tenant and namespace.

    <root>/shares/<32 hex digits>      one tenant: bytes (8, little-endian), then its name
    <root>/shares/n-<32 hex digits>    one namespace: bytes
    <root>/<namespace>/tenant          the name of the tenant whose frames these are; absent for none

Counts are changed only under the lock of `usage.Usage`, like the directory's own.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b

from cache.keys import ChunkKey, namespace_of
from cache.settings import Owner, Quotas
from cache.tiers.tier import Fault, Frame

_COUNT = struct.Struct("<q")
_NAMESPACE = "n-"


class Tally:
    """Bytes in all, and of whom."""

    def __init__(self) -> None:
        self.total = 0
        self.by_owner: Counter[Owner] = Counter()

    def add(self, key: ChunkKey, tenant: str, nbytes: int) -> None:
        """Count bytes of a frame."""
        self.total += nbytes
        self.by_owner[tenant] += nbytes
        self.by_owner[namespace_of(key)] += nbytes


class Shares:
    """The tenants and namespaces of one directory, as all its processes see them."""

    def __init__(self, root: str) -> None:
        """Raises OSError if the directory cannot be written to."""
        self._root = root
        self._directory = os.path.join(root, "shares")
        with suppress(FileExistsError):
            os.mkdir(self._directory, mode=0o700)
        self._owners: dict[str, str] = {}

    def used(self, owner: Owner) -> int:
        """Bytes that a tenant or a namespace has here."""
        return _read(self._path(owner))[0]

    def refuses(self, frame: Frame, quotas: Quotas, added: Tally) -> Fault | None:
        """Whether a frame is more than its tenant or namespace may have beside what was `added`."""
        namespace = namespace_of(frame.key)
        for owner, fault in ((namespace, Fault.NAMESPACE_QUOTA), (frame.tenant, Fault.QUOTA)):
            quota = quotas.of(owner)
            if quota is not None and self.used(owner) + added.by_owner[owner] + frame.nbytes > quota:
                return fault
        return None

    def all(self) -> dict[Owner, int]:
        """Bytes of everybody who has any; the tenant of the empty name is everybody without one."""
        return {owner: count for owner, count in self._counts() if count}

    def add(self, changes: Mapping[Owner, int]) -> None:
        """Add to, or take from, what they have. Under the lock. Raises OSError."""
        for owner, change in changes.items():
            if change:
                self._write(owner, self.used(owner) + change)

    def recount(self, sizes: Mapping[str, int]) -> None:
        """Set all counts, from bytes by namespace in hexadecimal. Under the lock. Raises OSError."""
        counts: Counter[Owner] = Counter()
        for namespace, nbytes in sizes.items():
            counts[bytes.fromhex(namespace)] += nbytes
            counts[self.owner(namespace)] += nbytes
        for owner, _ in list(self._counts()):
            if not counts[owner]:
                os.unlink(self._path(owner))
        for owner, count in counts.items():
            if count:
                self._write(owner, count)

    def owner(self, namespace: str) -> str:
        """The tenant of a namespace (its hexadecimal digest), empty for none."""
        owner = self._owners.get(namespace)
        if owner is None:
            try:
                with open(self._marker(namespace), "rb") as file:
                    owner = self._owners[namespace] = file.read().decode()
            except (OSError, ValueError):
                return ""
        return owner

    def claim(self, namespace: str, tenant: str) -> None:
        """Note a namespace's tenant with its first frame; its directory exists. Under the lock. Raises
        OSError."""
        if not tenant or self.owner(namespace):
            return
        marker = self._marker(namespace)
        _replace(marker, tenant.encode())
        self._owners[namespace] = tenant

    def _counts(self) -> Iterator[tuple[Owner, int]]:
        with suppress(OSError):
            for entry in os.scandir(self._directory):
                count, name = _read(entry.path)
                if entry.name.startswith(_NAMESPACE):
                    with suppress(ValueError):
                        yield bytes.fromhex(entry.name.removeprefix(_NAMESPACE)), count
                elif "." not in entry.name:
                    yield name, count

    def _path(self, owner: Owner) -> str:
        if isinstance(owner, bytes):
            return f"{self._directory}/{_NAMESPACE}{owner.hex()}"
        return f"{self._directory}/{blake2b(owner.encode(), digest_size=16).hexdigest()}"

    def _marker(self, namespace: str) -> str:
        return os.path.join(self._root, namespace, "tenant")

    def _write(self, owner: Owner, count: int) -> None:
        path, packed = self._path(owner), _COUNT.pack(max(0, count))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            _replace(path, packed + (b"" if isinstance(owner, bytes) else owner.encode()))
            return
        try:
            os.pwrite(fd, packed, 0)
        finally:
            os.close(fd)


def _read(path: str) -> tuple[int, str]:
    try:
        with open(path, "rb") as file:
            content = file.read()
        return int(_COUNT.unpack_from(content)[0]), content[_COUNT.size :].decode()
    except (OSError, ValueError, struct.error):
        return 0, ""


def _replace(path: str, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
    os.replace(temporary, path)
