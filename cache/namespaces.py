"""The namespaces that a store was told of: what it has to know of them that their keys do not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cache.codecs.codec import Codec, refuse_holes
from cache.keys import EXACT, ChunkKey, Namespace, namespace_of
from cache.ladder import Ladder, ladder_of
from cache.settings import Owner


class OpenNamespace(NamedTuple):
    """One of them."""

    tenant: str
    kind: str
    """`exact`, or the quality level: only lossless codecs may touch exact chunks."""
    codec: Codec | None
    """For every slower tier, instead of the tier's own."""


class OpenNamespaces:
    """By digest. `ladders` are those of namespaces that are kept at several levels."""

    def __init__(self, layout: bytes) -> None:
        """`layout`: the fingerprint that all of them must have."""
        self._layout = layout
        self._opened: dict[bytes, OpenNamespace] = {}
        self.ladders: dict[bytes, Ladder] = {}

    def open(self, namespace: Namespace, codec: Codec | None, *, streams: bool) -> bytes:
        """See `Store.open_namespace`; `streams`: some tier chooses among levels."""
        if namespace.layout != self._layout:
            raise ValueError("the namespace belongs to another KV layout than this store's arena")
        if codec is not None:
            refuse_holes(codec)
        if codec is not None and not codec.lossless and namespace.kind == EXACT:
            raise ValueError(f"codec {codec.name} is lossy: its chunks need a namespace of another kind")
        digest = namespace.digest()
        if codec is not None and streams and (ladder := ladder_of(namespace)) is not None:
            self.ladders[digest] = ladder
        self._opened[digest] = OpenNamespace(namespace.tenant, namespace.kind, codec)
        return digest

    def close(self, digest: bytes) -> None:
        """Forget it. Idempotent."""
        self._opened.pop(digest, None)
        self.ladders.pop(digest, None)

    def get(self, digest: bytes) -> OpenNamespace | None:
        """What was said of a namespace; None if nobody has opened it."""
        return self._opened.get(digest)

    def tenant(self, digest: bytes) -> str | None:
        """Whose it is; None if nobody has opened it."""
        known = self._opened.get(digest)
        return known.tenant if known is not None else None

    def owners(self) -> Iterator[Owner]:
        """All of them, and their tenants."""
        for digest, known in list(self._opened.items()):
            yield digest
            yield known.tenant

    def exact(self, key: ChunkKey) -> bool:
        """Whether a chunk takes nothing that a lossy codec has written."""
        known = self._opened.get(namespace_of(key))
        return known is None or known.kind == EXACT

    def codec(self, key: ChunkKey, default: Codec) -> Codec:
        """What a chunk is written with, in a tier whose own codec is `default`."""
        known = self._opened.get(namespace_of(key))
        return default if known is None or known.codec is None else known.codec

    def digests(self, namespace: bytes | None) -> list[bytes | None]:
        """A namespace, and where its better copies lie; None stands for all."""
        ladder = self.ladders.get(namespace) if namespace is not None else None
        if ladder is None:
            return [namespace]
        return [ladder.digest(level) for level in range(len(ladder.rungs))]
