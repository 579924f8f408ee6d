"""What the gateway tells the KV layer about a request inside vLLM's own `cache_salt`.

vLLM hashes the whole salt into its prefix cache, so requests with different salts share nothing inside the
engine either; the KV layer reads from it whose KV a request may use and of what quality. Imports nothing, so
that the gateway can write what the engine's side reads.
"""

from __future__ import annotations

from dataclasses import dataclass

MARK = "sluice1"
"""How every salt of ours begins."""
EXACT = "exact"


@dataclass(frozen=True, slots=True)
class CacheSalt:
    """`tenant`: who shares KV with each other; empty is everybody who names none. `quality`: kind of KV."""

    tenant: str = ""
    quality: str = EXACT

    def encode(self) -> str | None:
        """The salt to send; None where nothing has to be said, which leaves the engine's cache shared."""
        if self == CacheSalt():
            return None
        return f"{MARK}:{len(self.tenant)}:{self.tenant}:{self.quality}"

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
