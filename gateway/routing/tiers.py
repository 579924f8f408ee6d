"""Where a block of KV can be: on the device, or in a tier from which it is loaded, which others may read too.

A set of tiers is a sum of the constants. The lower the bit, the faster the tier.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from gateway.routing.segments import RecentMap

DEVICE: Final = 1
HOST: Final = 2
"""Main memory of the worker's machine, its own."""
FILE: Final = 4
VALKEY: Final = 8
OBJECT: Final = 16
"""An object store."""
_OF_MEDIUM: Final = {
    "GPU": DEVICE,
    "CPU": HOST,
    "MEMORY": HOST,
    "PACKED": HOST,
    "FILE": FILE,
    "STORAGE": FILE,
    "VALKEY": VALKEY,
    "S3": OBJECT,
}

FileScope = Literal["host", "fleet"]
"""Who reads a worker's file tier: workers of its machine, or all, as on a network file system."""


def tier_of(medium: str | None, locality: str | None = None) -> int:
    """The tier that a KV event means. vLLM's CPU engine calls its own memory "GPU" as well.

    A medium of another name is taken for files, and one that is said to be remote for an object store.
    """
    if medium is None:
        return DEVICE
    tier = _OF_MEDIUM.get(medium.upper(), FILE)
    return OBJECT if tier == FILE and locality == "REMOTE" else tier


def fastest(tiers: int) -> int:
    """The fastest of a set of tiers that is not empty."""
    return tiers & -tiers


class SharedTiers:
    """Which prefixes are in tiers that several workers read. At most `max_entries`; the oldest go first.

    An engine's restart or reset leaves them as they are: the store is not the engine's.
    """

    __slots__ = ("_tiers", "max_entries", "of")

    def __init__(self, tiers: int, max_entries: int = 1) -> None:
        self.of = tiers
        """The tiers that are shared here."""
        self.max_entries = max_entries
        self._tiers: RecentMap[int] = RecentMap()

    def __len__(self) -> int:
        return len(self._tiers)

    def get(self, key: int) -> int:
        """The tiers that hold a prefix."""
        return self._tiers.get(key) or 0

    def add(self, key: int, tiers: int) -> None:
        """Somebody has stored it."""
        held = self._tiers
        held.put(key, (held.get(key) or 0) | tiers)
        for _ in range(2):  # a bound that was lowered is reached over several calls
            if len(held) > self.max_entries:
                held.pop_oldest(1)

    def remove(self, key: int, tiers: int) -> None:
        """It is gone from these tiers."""
        left = self.get(key) & ~tiers
        if left:
            self._tiers.put(key, left)
        else:
            self._tiers.pop(key)


class SharedStores:
    """The shared tiers of a whole fleet: one set that all workers read, and one for each machine."""

    def __init__(self, file_scope: FileScope) -> None:
        by_all = VALKEY | OBJECT | (FILE if file_scope == "fleet" else 0)
        self._of_host = FILE & ~by_all
        self._fleet = SharedTiers(by_all)
        self._hosts: dict[str, SharedTiers] = {}

    def read_by(self, host: str) -> tuple[SharedTiers, ...]:
        """What a worker of this machine can load from."""
        if not self._of_host:
            return (self._fleet,)
        return self._fleet, self._hosts.setdefault(host, SharedTiers(self._of_host))

    def keep_hosts(self, hosts: set[str]) -> None:
        """Machines that no worker is left on are forgotten."""
        for gone in self._hosts.keys() - hosts:
            del self._hosts[gone]

    def __iter__(self) -> Iterator[SharedTiers]:
        yield self._fleet
        yield from self._hosts.values()

    def __len__(self) -> int:
        return 1 + len(self._hosts)
