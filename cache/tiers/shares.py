"""Whose the bytes of a shared directory are: a count for every tenant, and every namespace's owner.

    <root>/shares/<32 hex digits>      one tenant: bytes (8, little-endian), then its name
    <root>/<namespace>/tenant          the name of the tenant whose frames these are; absent for none

Counts are changed only under the lock of `usage.Usage`, like the directory's own.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b

_COUNT = struct.Struct("<q")


class Shares:
    """The tenants of one directory, as all its processes see them."""

    def __init__(self, root: str) -> None:
        """Raises OSError if the directory cannot be written to."""
        self._root = root
        self._directory = os.path.join(root, "shares")
        with suppress(FileExistsError):
            os.mkdir(self._directory, mode=0o700)
        self._owners: dict[str, str] = {}

    def used(self, tenant: str) -> int:
        """Bytes that a tenant has here."""
        return _read(self._path(tenant))[0]

    def all(self) -> dict[str, int]:
        """Bytes by tenant; the empty name is everybody without one."""
        found: dict[str, int] = {}
        with suppress(OSError):
            for entry in os.scandir(self._directory):
                count, tenant = _read(entry.path)
                if count:
                    found[tenant] = count
        return found

    def add(self, changes: Mapping[str, int]) -> None:
        """Add to, or take from, what tenants have. Under the lock. Raises OSError."""
        for tenant, change in changes.items():
            if change:
                self._write(tenant, self.used(tenant) + change)

    def recount(self, counts: Mapping[str, int]) -> None:
        """Set all counts. Under the lock. Raises OSError."""
        for tenant in self.all().keys() - counts.keys():
            self._write(tenant, 0)
        for tenant, count in counts.items():
            self._write(tenant, count)

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

    def _path(self, tenant: str) -> str:
        return os.path.join(self._directory, blake2b(tenant.encode(), digest_size=16).hexdigest())

    def _marker(self, namespace: str) -> str:
        return os.path.join(self._root, namespace, "tenant")

    def _write(self, tenant: str, count: int) -> None:
        _replace(self._path(tenant), _COUNT.pack(max(0, count)) + tenant.encode())


def by_owner(shares: Shares, sizes: Mapping[str, int]) -> Counter[str]:
    """Bytes by tenant, of bytes by namespace."""
    counts: Counter[str] = Counter()
    for namespace, nbytes in sizes.items():
        counts[shares.owner(namespace)] += nbytes
    return counts


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
