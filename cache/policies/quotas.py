"""An eviction policy of one space in which some tenants have bounds of their own."""

from __future__ import annotations

from collections.abc import Callable

from cache.policies.policy import EvictionPolicy, Protected


class QuotaPolicy:
    """One order over everything, and another over each bounded tenant's own chunks.

    `tenant_of` tells whose a key is, and must not change its mind while the key is here.
    """

    def __init__(
        self,
        everything: EvictionPolicy,
        make: Callable[[int], EvictionPolicy],
        quota: Callable[[str], int | None],
        tenant_of: Callable[[bytes], str],
    ) -> None:
        """`make` takes a bound in bytes."""
        self._everything = everything
        self._make = make
        self._quota = quota
        self._tenant_of = tenant_of
        self._own: dict[str, EvictionPolicy] = {}

    def insert(self, key: bytes, size: int) -> None:
        self._everything.insert(key, size)
        if (own := self._policy(key)) is not None:
            own.insert(key, size)

    def touch(self, key: bytes) -> None:
        self._everything.touch(key)
        if (own := self._policy(key)) is not None:
            own.touch(key)

    def remove(self, key: bytes) -> None:
        self._everything.remove(key)
        if (own := self._policy(key)) is not None:
            own.remove(key)

    def evict(self, protected: Protected) -> bytes | None:
        key = self._everything.evict(protected)
        if key is not None and (own := self._policy(key)) is not None:
            own.remove(key)
        return key

    def evict_of(self, tenant: str, protected: Protected) -> bytes | None:
        """Like `evict`, among one tenant's own."""
        own = self._own.get(tenant)
        key = own.evict(protected) if own is not None else None
        if key is not None:
            self._everything.remove(key)
        return key

    def __contains__(self, key: object) -> bool:
        return key in self._everything

    def __len__(self) -> int:
        return len(self._everything)

    def _policy(self, key: bytes) -> EvictionPolicy | None:
        tenant = self._tenant_of(key)
        own = self._own.get(tenant)
        if own is None and (quota := self._quota(tenant)) is not None:
            own = self._own[tenant] = self._make(quota)
        return own
