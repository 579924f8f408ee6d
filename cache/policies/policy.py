"""What an eviction policy is, and the table of those there are."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

Protected = Callable[[bytes], bool]
"""Whether a chunk must stay for now: it is leased, pinned, or being written."""


class EvictionPolicy(Protocol):
    """Holds the keys of one space and picks victims. No time, no bytes, no locks; every call is amortised
    O(1).

    Prefix caches make one demand on callers: insert and touch the chunks of a prompt from the last to the
    first, for a chunk is useless once an earlier one is gone.
    """

    def insert(self, key: bytes, size: int) -> None:
        """A chunk of `size` bytes came into the space. Inserting a present key only touches it."""
        ...

    def touch(self, key: bytes) -> None:
        """The chunk was used. An absent key is ignored."""
        ...

    def remove(self, key: bytes) -> None:
        """The chunk left for another reason than eviction. An absent key is ignored."""
        ...

    def evict(self, protected: Protected) -> bytes | None:
        """Remove the best victim that is not protected and return it; None if all are. Never a protected
        one."""
        ...

    def __contains__(self, key: object) -> bool: ...

    def __len__(self) -> int: ...


_POLICIES = {"lru": ("cache.policies.lru", "LRU"), "s3fifo": ("cache.policies.s3fifo", "S3FIFO")}
NAMES = tuple(_POLICIES)


class UnknownPolicy(ValueError):
    """No eviction policy has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no eviction policy is called {name!r}; there are {', '.join(NAMES)}")


def make_policy(name: str, capacity: int) -> EvictionPolicy:
    """A fresh policy for a space of `capacity` bytes. Raises UnknownPolicy."""
    if name not in _POLICIES:
        raise UnknownPolicy(name)
    module, attribute = _POLICIES[name]
    return cast(EvictionPolicy, getattr(import_module(module), attribute)(capacity))
