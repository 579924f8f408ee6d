"""What the gateway tells the KV layer about a request inside vLLM's own `cache_salt`.

vLLM hashes the whole salt into its prefix cache, so requests with different salts share nothing inside the
engine either; the KV layer reads from it whose KV a request may use and of what quality. Light, so that
the gateway can write what the engine's side reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

MARK = "sluice1"
"""How every salt of ours begins."""
EXACT = "exact"


_LONGEST = 64
_FORBIDDEN = frozenset("@/\\\0")
"""vLLM refuses these characters in a salt, and more than 128 of any."""


def known_as(tenant: str) -> str:
    """The name under which a tenant's KV is kept: its own, or a digest where engines would not take that."""
    if len(tenant) <= _LONGEST and _FORBIDDEN.isdisjoint(tenant):
        return tenant
    return "blake2b:" + blake2b(tenant.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class CacheSalt:
    """`tenant`: who shares KV with each other; empty is everybody who names none. `quality`: kind of KV."""

    tenant: str = ""
    quality: str = EXACT

    def encode(self) -> str | None:
        """The salt to send; None where nothing has to be said, which leaves the engine's cache shared."""
        if self == CacheSalt():
            return None
        tenant = known_as(self.tenant)
        return f"{MARK}:{len(tenant)}:{tenant}:{self.quality}"

    @classmethod
    def parse(cls, salt: str | None) -> CacheSalt:
        """What a salt says. One that Sluice did not write isolates as it does in vLLM: it names a tenant."""
        if not salt:
            return cls()
        mark, _, rest = salt.partition(":")
        length, _, rest = rest.partition(":")
        if mark == MARK and length.isdecimal():
            tenant, quality = rest[: int(length)], rest[int(length) :]
            if len(tenant) == int(length) and len(quality) > 1 and quality[0] == ":":
                return cls(tenant, quality[1:])
        return cls(f"salt:{salt}")
