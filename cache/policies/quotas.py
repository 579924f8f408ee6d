"""An eviction policy of one space in which some tenants or namespaces have bounds of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cache.policies.policy import EvictionPolicy, Protected
from cache.settings import Owner


class QuotaPolicy:
    """One order over everything, and another over the chunks of each owner that has a bound.

    `owners_of` tells whose a key is, and must not change its mind while the key is here.
    """

    def __init__(
        self,
        everything: EvictionPolicy,
        make: Callable[[int], EvictionPolicy],
        quota: Callable[[Owner], int | None],
        owners_of: Callable[[bytes], tuple[Owner, ...]],
    ) -> None:
        """`make` takes a bound in bytes."""
        self._everything = everything
        self._make = make
        self._quota = quota
        self._owners_of = owners_of
        self._own: dict[Owner, EvictionPolicy] = {}

    def insert(self, key: bytes, size: int) -> None:
        self._everything.insert(key, size)
        for own in self._policies(key):
            own.insert(key, size)

    def touch(self, key: bytes) -> None:
        self._everything.touch(key)
        for own in self._policies(key):
            own.touch(key)

    def remove(self, key: bytes) -> None:
        self._everything.remove(key)
        for own in self._policies(key):
            own.remove(key)

    def evict(self, protected: Protected) -> bytes | None:
        return self._gone(self._everything.evict(protected))

    def evict_of(self, owner: Owner, protected: Protected) -> bytes | None:
        """Like `evict`, among the chunks of one owner with a bound."""
        own = self._own.get(owner)
        return self._gone(own.evict(protected)) if own is not None else None

    def __contains__(self, key: object) -> bool:
        return key in self._everything

    def __len__(self) -> int:
        return len(self._everything)

    def _gone(self, key: bytes | None) -> bytes | None:
        """A victim leaves every order."""
        if key is not None:
            self.remove(key)
        return key

    def _policies(self, key: bytes) -> Iterator[EvictionPolicy]:
        for owner in self._owners_of(key):
            own = self._own.get(owner)
            if own is None and (quota := self._quota(owner)) is not None:
                own = self._own[owner] = self._make(quota)
            if own is not None:
                yield own
