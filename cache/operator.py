"""Carries out an operator's commands on one store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from cache.codecs.codec import UnknownCodec
from cache.control import (
    Chunk,
    Clear,
    Command,
    CommandError,
    Compress,
    Lookup,
    Move,
    Outcome,
    Pin,
    Prefetch,
    Selection,
    Share,
    Shares,
    Unpin,
)
from cache.counters import StoreStats
from cache.inventory import ChunkInfo
from cache.keys import KEY_BYTES, ChunkKey, chunk_keys, namespace_of
from cache.relocate import UnknownTier
from cache.store import Store


class KnownNamespaces(Protocol):
    """What the engine's side knows of namespaces. Any thread."""

    def digest_of(self, tenant: str, quality: str, adapter: str) -> bytes:
        """That of a tenant's KV of a quality, with a LoRA adapter if one is named.

        Raises ValueError for an adapter that is not known.
        """
        ...

    def adapter_of(self, namespace: bytes) -> str:
        """The name of a namespace's adapter; empty for none, and for one that is not known."""
        ...


class Operator:
    """Stateless; any thread. `prefetch`, `move` and `compress` block for as long as they say."""

    def __init__(self, store: Store, namespaces: KnownNamespaces) -> None:
        self._store = store
        self._namespaces = namespaces

    def carry_out(self, command: Command) -> Outcome:
        """Raises CommandError."""
        keys = self._keys(command.select)
        store = self._store
        try:
            match command:
                case Lookup(select):
                    return self._lookup(self._prompt(select))
                case Prefetch(select, seconds):
                    return self._prefetch(self._prompt(select), seconds)
                case Pin(_, owner, seconds):
                    return Outcome(len(keys), store.pin(keys, owner, seconds))
                case Unpin(_, owner):
                    return Outcome(len(keys), store.unpin(keys, owner))
                case Clear(select):
                    return self._clear(select, keys)
                case Move(_, source, target, keep, seconds):
                    moved = store.relocation.move(keys, source, target, keep=keep, seconds=seconds)
                    return Outcome(len(keys), moved)
                case Compress(_, tier, codec, config, seconds):
                    return Outcome(
                        len(keys), store.relocation.recode(keys, tier, codec, config, seconds=seconds)
                    )
        except (UnknownTier, UnknownCodec, ValueError) as error:
            raise CommandError(str(error)) from error

    def chunks(self, limit: int, tenant: str | None = None, adapter: str = "") -> list[Chunk]:
        """Known chunks, those in memory first, of one tenant and of one adapter where these are named."""
        known = self._store.inventory.chunks(limit=limit if tenant is None and not adapter else 1 << 30)
        chosen = [
            info
            for info in known
            if tenant in (None, info.tenant) and adapter in ("", self._adapter_of(info))
        ]
        return [
            Chunk(
                info.key.hex(),
                dict(info.tiers),
                info.tenant,
                self._adapter_of(info),
                info.position,
                info.holds,
                dict(info.pins),
                info.expires,
            )
            for info in chosen[:limit]
        ]

    def stats(self) -> StoreStats:
        return self._store.stats()

    def shares(self) -> Shares:
        """What each tenant and namespace has and may have. Asks servers that count: may take seconds."""
        tenants: dict[str, Share] = {}
        namespaces: dict[str, Share] = {}
        for owner, share in self._store.inventory.shares().items():
            if isinstance(owner, bytes):
                adapter = self._namespaces.adapter_of(owner)
                namespaces[owner.hex()] = Share(share.used, share.quotas, share.tenant, share.kind, adapter)
            else:
                tenants[owner] = Share(share.used, share.quotas)
        return Shares(tenants, namespaces)

    def health(self) -> dict[str, bool]:
        """Whether each tier answers."""
        return self._store.health()

    def layout(self) -> dict[str, Any]:
        """What one chunk is here."""
        return {"chunk_tokens": self._store.chunk_tokens, "chunk_bytes": self._store.chunk_bytes}

    def _keys(self, select: Selection) -> Sequence[ChunkKey]:
        if select.tokens:
            return self._prompt(select)
        if select.keys:
            return [_key(text) for text in select.keys]
        known = self._store.inventory.chunks(limit=1 << 30)
        return [
            info.key
            for info in known
            if select.tenant in ("", info.tenant) and select.adapter in ("", self._adapter_of(info))
        ]

    def _adapter_of(self, info: ChunkInfo) -> str:
        return self._namespaces.adapter_of(namespace_of(info.key))

    def _prompt(self, select: Selection) -> list[ChunkKey]:
        if not select.tokens:
            raise CommandError("this verb is about one prompt: select by tokens")
        try:
            namespace = self._namespaces.digest_of(select.tenant, select.quality, select.adapter)
            return chunk_keys(namespace, select.tokens, self._store.chunk_tokens)
        except ValueError as error:
            raise CommandError(str(error)) from error

    def _lookup(self, keys: list[ChunkKey]) -> Outcome:
        store = self._store
        with store.lookup(keys, owner="control") as lease:
            tiers: dict[str, int] = {}
            for segment in store.segments(lease):
                tokens = segment.chunks * store.chunk_tokens
                tiers[segment.tier] = tiers.get(segment.tier, 0) + tokens
            return Outcome(len(keys), lease.known, lease.known * store.chunk_tokens, tiers)

    def _prefetch(self, keys: list[ChunkKey], seconds: float) -> Outcome:
        ready = self._store.relocation.prefetch(keys, seconds)
        return Outcome(len(keys), ready, ready * self._store.chunk_tokens)

    def _clear(self, select: Selection, keys: Sequence[ChunkKey]) -> Outcome:
        if select.everything and not select.tenant and not select.adapter:
            cleared = self._store.clear()
            return Outcome(cleared, cleared)
        return Outcome(len(keys), self._store.clear(keys=keys))


def _key(text: str) -> ChunkKey:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise CommandError(f"{text!r} is no chunk key: it has {2 * KEY_BYTES} hexadecimal digits")
    return ChunkKey(key)
