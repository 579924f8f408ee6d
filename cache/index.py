"""What the store knows of each chunk, and the arena's room: who may stay, who must go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from cache.arena import Arena, SlotRef
from cache.counters import MEMORY
from cache.keys import NAMESPACE_BYTES, ChunkKey
from cache.policies.policy import EvictionPolicy, make_policy
from cache.policies.quotas import QuotaPolicy
from cache.settings import Owner, Quotas


class Place(NamedTuple):
    """A copy of a chunk in a slower tier."""

    nbytes: int
    """Of the frame."""
    used: float
    """Wall-clock second of the last use that this process knows of."""


class Entry:
    """One chunk: its slot in the arena, if any, and the slower tiers that have it."""

    __slots__ = (
        "expires",
        "fetching",
        "holds",
        "indexed",
        "key",
        "landing",
        "origin",
        "pinned",
        "places",
        "position",
        "slot",
        "tenant",
        "waiters",
    )

    def __init__(self, key: ChunkKey, tenant: str) -> None:
        self.key = key
        self.tenant = tenant
        self.position = 0
        """Of the chunk's first token in its sequence."""
        self.slot: SlotRef | None = None
        """Complete and readable."""
        self.landing: SlotRef | None = None
        """Being filled, by a reservation or a fetch."""
        self.fetching = False
        """Whether `landing` is filled from a slower tier."""
        self.origin = MEMORY
        """The tier that `slot` was last filled from, or `landing` is."""
        self.places: dict[str, Place] = {}
        self.holds = 0
        """Leases and transfers that use the slot."""
        self.waiters: list[Callable[[Entry], None]] = []
        """Called once when `landing` has ended, either way."""
        self.expires: float | None = None
        """Wall-clock second after which it is not served."""
        self.pinned = False
        self.indexed = True
        """False once it was cleared: whoever holds it last frees the slot."""


class Room:
    """The arena's slots shared among tenants. Not thread-safe: the store's lock is held around every call.

    Every tenant has a policy of its own, so one tenant's traffic evicts its own chunks once it has more than
    its share: its quota if it has one, else an equal part of the arena. A namespace with a quota evicts its
    own chunks once it has that.
    """

    def __init__(self, arena: Arena, policy: str, quotas: Quotas) -> None:
        self._arena = arena
        self._policy_name = policy
        self._quotas = quotas
        self._policies: dict[str, EvictionPolicy] = {}
        self._used: dict[str, int] = {}
        self._used_by: dict[bytes, int] = {}

    def used(self, tenant: str) -> int:
        """Bytes of the tenant's slots, being filled ones included."""
        return self._used.get(tenant, 0)

    def tenants(self) -> Iterator[tuple[str, int]]:
        return iter(self._used.items())

    def namespaces(self) -> Iterator[tuple[bytes, int]]:
        return iter(self._used_by.items())

    def take(self, tenant: str, namespace: bytes) -> SlotRef | None:
        """A free slot within the quotas of both, None if there is none."""
        refs = self.take_free(tenant, namespace, 1)
        return refs[0] if refs else None

    def take_free(self, tenant: str, namespace: bytes, count: int) -> list[SlotRef]:
        """At most `count` free slots within the quotas of both: as many as there are, if those are fewer."""
        nbytes, used, used_by = self._arena.slot_bytes, self.used(tenant), self._used_by.get(namespace, 0)
        quotas = self._quotas
        if (quota := quotas.of(tenant)) is not None:
            count = min(count, max(0, quota - used) // nbytes)
        if quotas.bound_namespaces and (quota := quotas.of(namespace)) is not None:
            count = min(count, max(0, quota - used_by) // nbytes)
        refs = self._arena.allocate_whole(count)
        if refs:
            self._used[tenant] = used + len(refs) * nbytes
            self._used_by[namespace] = used_by + len(refs) * nbytes
        return refs

    def is_full_for(self, tenant: str, namespace: bytes) -> bool:
        """Whether one of the two has a quota and has used it up."""
        return self._is_full(tenant, self.used(tenant)) or self._has_its_quota(namespace)

    def give(self, ref: SlotRef, tenant: str, namespace: bytes) -> None:
        """Return a slot."""
        self._arena.free(ref)
        left = self._used[tenant] - ref.nbytes
        if left:
            self._used[tenant] = left
        else:
            # Clients name tenants: one that has nothing here must not be remembered for ever.
            del self._used[tenant]
            self._policies.pop(tenant, None)
        left = self._used_by[namespace] - ref.nbytes
        if left:
            self._used_by[namespace] = left
        else:
            del self._used_by[namespace]

    def admit(self, entry: Entry) -> None:
        """The entry's slot may from now on be chosen as a victim."""
        self.policy(entry.tenant).insert(entry.key, self._arena.slot_bytes)

    def forget(self, entry: Entry) -> None:
        """The entry's slot is no candidate: it left, or it is pinned."""
        if (policy := self._policies.get(entry.tenant)) is not None:
            policy.remove(entry.key)

    def touch(self, entry: Entry) -> None:
        """The entry was used."""
        if (policy := self._policies.get(entry.tenant)) is not None:
            policy.touch(entry.key)

    def policy(self, tenant: str) -> EvictionPolicy:
        policy = self._policies.get(tenant)
        if policy is None:
            make = partial(make_policy, self._policy_name)
            policy = make(self._arena.data_bytes)
            if self._quotas.bound_namespaces:
                policy = QuotaPolicy(policy, make, self._quotas.of, lambda key: (key[:NAMESPACE_BYTES],))
            self._policies[tenant] = policy
        return policy

    def victim(self, tenant: str, namespace: bytes, protected: Callable[[bytes], bool]) -> bytes | None:
        """The chunk to drop so that one of `tenant` and `namespace` may be saved; None if nothing may be.

        The namespace's or the tenant's own when it has its quota or its share, else one of whoever is
        furthest above theirs.
        """
        policy = self.policy(tenant)
        if isinstance(policy, QuotaPolicy) and self._has_its_quota(namespace):
            return policy.evict_of(namespace, protected)
        if self._is_full(tenant, self.used(tenant)):
            return policy.evict(protected)
        by_excess = sorted(self._used, key=lambda name: self._used[name] / self._share(name), reverse=True)
        if self.used(tenant) >= self._share(tenant):
            by_excess.insert(0, tenant)
        for name in by_excess:
            key = self.policy(name).evict(protected)
            if key is not None:
                return key
        return None

    def _has_its_quota(self, namespace: bytes) -> bool:
        return self._quotas.bound_namespaces and self._is_full(namespace, self._used_by.get(namespace, 0))

    def _is_full(self, owner: Owner, used: int) -> bool:
        quota = self._quotas.of(owner)
        return quota is not None and used + self._arena.slot_bytes > quota

    def _share(self, tenant: str) -> float:
        quota = self._quotas.of(tenant)
        return max(1.0, quota if quota is not None else self._arena.data_bytes / max(1, len(self._used)))
