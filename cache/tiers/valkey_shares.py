"""Quotas in a Valkey or Redis server, kept by the server itself: scripts that run there as one step.

Every tenant and namespace with a bound has two keys beside the frames:

    <prefix>shares:<t|n>:<32 hex digits>:order    sorted set: its frames by last use
    <prefix>shares:<t|n>:<32 hex digits>:sizes    hash: bytes of each frame, and under "" of all

A frame is written, counted, and what was not used for longest makes room for it, in one script: the bound
holds at every moment, whichever workers write. What expires or falls to the server's own `maxmemory` is
counted until its time to live is over or its turn comes: too high, never too low. So that the server does not
evict the counts themselves, its `maxmemory-policy` should be a `volatile-` one: they have no time to live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

from cache.keys import ChunkKey, namespace_of
from cache.settings import Owner, Quotas
from cache.tiers.tier import Fault

Command = tuple[Any, ...]

_SET = b"""
local frame, size, ttl, now = KEYS[1], #ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local answer = {0}
for i = 2, #KEYS, 2 do
  if size > tonumber(ARGV[3 + i / 2]) then return {i / 2} end
end
for i = 2, #KEYS, 2 do
  local order, sizes, quota = KEYS[i], KEYS[i + 1], tonumber(ARGV[3 + i / 2])
  local total = tonumber(redis.call('HGET', sizes, '') or 0)
  local function uncount(member)
    total = total - tonumber(redis.call('HGET', sizes, member) or 0)
    redis.call('HDEL', sizes, member)
    redis.call('ZREM', order, member)
  end
  uncount(frame)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', order, '-inf', now - 1000 * ttl, 'LIMIT', 0, 64)) do
    uncount(member)
    redis.call('UNLINK', member)
  end
  while total + size > quota do
    local oldest = redis.call('ZRANGE', order, 0, 0)[1]
    if not oldest then total = 0 break end
    uncount(oldest)
    redis.call('UNLINK', oldest)
  end
  redis.call('HSET', sizes, '', total + size, frame, size)
  redis.call('ZADD', order, now, frame)
  answer[#answer + 1] = total + size
end
redis.call('SET', frame, ARGV[1], 'PX', ttl)
return answer
"""
"""Keys: the frame, then order and sizes of each owner. Arguments: bytes, time to live in ms, time in us,
quotas. Answers 0 and what each owner has now, or the number of an owner whose quota the frame exceeds."""

_UNCOUNT = b"""
local size = redis.call('STRLEN', KEYS[1])
for i = 2, #KEYS, 2 do
  local counted = redis.call('HGET', KEYS[i + 1], KEYS[1])
  if counted then
    redis.call('HDEL', KEYS[i + 1], KEYS[1])
    redis.call('ZREM', KEYS[i], KEYS[1])
    redis.call('HINCRBY', KEYS[i + 1], '', -tonumber(counted))
  end
end
redis.call('UNLINK', KEYS[1])
return size
"""
"""Keys as above. Removes the frame; answers its bytes, 0 where there was none."""


class ValkeyShares:
    """Commands that keep the quotas of one server's frames; sends nothing itself."""

    def __init__(self, prefix: bytes, quotas: Quotas, tenant_of: Callable[[bytes], str], ttl_ms: int) -> None:
        """`tenant_of` a namespace, as far as this process knows."""
        self._prefix = prefix
        self._quotas = quotas
        self._tenant_of = tenant_of
        self._ttl_ms = ttl_ms
        self.heard: dict[Owner, int] = {}
        """Bytes by owner as the server has told."""

    @property
    def bound(self) -> bool:
        """Whether anybody is limited."""
        return self._quotas.bound_tenants or self._quotas.bound_namespaces

    def set(self, name: bytes, key: ChunkKey, tenant: str, content: bytes, number: int) -> Command:
        """Write a frame, the one of that number in a batch, within the quotas of its owners."""
        owners = self._owners(key, tenant)
        quotas = [quota for _, quota in owners]
        keys = self._keys(owners)
        return ("EVAL", _SET, 1 + len(keys), name, *keys, content, self._ttl_ms, _now(number), *quotas)

    def told(self, key: ChunkKey, tenant: str, answer: Sequence[int]) -> Fault | None:
        """What the answer to `set` says."""
        owners = self._owners(key, tenant)
        if answer[0]:
            refusing = owners[answer[0] - 1][0]
            return Fault.NAMESPACE_QUOTA if isinstance(refusing, bytes) else Fault.QUOTA
        self.heard.update(zip((owner for owner, _ in owners), answer[1:], strict=True))
        return None

    def used(self, name: bytes, key: ChunkKey, number: int) -> list[Command]:
        """A frame, the one of that number in a batch, was read."""
        owners = self._owners(key, self._tenant_of(namespace_of(key)))
        return [("ZADD", order, "XX", _now(number), name) for order in self._keys(owners)[::2]]

    def remove(self, name: bytes, key: ChunkKey) -> Command:
        """Remove a frame and what is counted for it."""
        keys = self._keys(self._owners(key, self._tenant_of(namespace_of(key))))
        return ("EVAL", _UNCOUNT, 1 + len(keys), name, *keys)

    def count(self, owner: Owner) -> Command:
        """Ask what an owner has."""
        return ("HGET", self._key(owner, b"sizes"), "")

    def limited(self, owners: Iterable[Owner]) -> list[Owner]:
        """Those of them that have a bound and therefore a count."""
        return [owner for owner in owners if self._quotas.of(owner) is not None]

    def _owners(self, key: ChunkKey, tenant: str) -> list[tuple[Owner, int]]:
        pair: tuple[Owner, ...] = (namespace_of(key), tenant)
        return [(owner, quota) for owner in pair if (quota := self._quotas.of(owner)) is not None]

    def _keys(self, owners: Iterable[tuple[Owner, int]]) -> list[bytes]:
        return [self._key(owner, part) for owner, _ in owners for part in (b"order", b"sizes")]

    def _key(self, owner: Owner, part: bytes) -> bytes:
        # One byte shorter than a frame's name, so that no scan takes it for one.
        if isinstance(owner, bytes):
            kind, digest = b"n", owner.hex()
        else:
            kind, digest = b"t", blake2b(owner.encode(), digest_size=16).hexdigest()
        return b"%bshares:%b:%b:%b" % (self._prefix, kind, digest.encode(), part)


def _now(number: int) -> int:
    """Microseconds. Of a batch the first is the latest: a chunk is useless without those before it."""
    return time.time_ns() // 1000 - 50 * number
