"""Names of KV chunks: a namespace that fixes what the bytes mean, and a hash chained over token ids.

A key says two things. Its first 16 bytes name the namespace: equal only if every property that could change
the bytes is equal. The other 32 are a chained BLAKE3 over the tokens, so one key stands for a whole prefix.
Both have a canonical encoding and a fixed seed: every process on every machine gets the same key, whatever
PYTHONHASHSEED says.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NewType

import blake3
import cbor2

ChunkKey = NewType("ChunkKey", bytes)
"""48 bytes: namespace digest (16), chained hash (32). Plain bytes, so that a million of them cost the GC
nothing."""

NAMESPACE_BYTES = 16
KEY_BYTES = 48
EXACT = "exact"
"""The kind of KV that is bit for bit what the engine computed. Any other kind lives under other keys."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Everything besides tokens that decides what a chunk's bytes are and who may read them.

    Two engines share chunks if and only if all fields are equal.
    """

    model: str
    weights: str
    """Fingerprint of the weights, not their path: a fine-tuned model under the old name gets other keys."""
    revision: str
    dtype: str
    """Of the computation, e.g. `bfloat16`."""
    rope: Mapping[str, Any]
    """Rotary embedding parameters as the engine uses them; CBOR values."""
    layout: bytes
    """`KVLayout.fingerprint()`."""
    tp_rank: int = 0
    tp_size: int = 1
    pp_rank: int = 0
    pp_size: int = 1
    adapter: str = ""
    """Fingerprint of the LoRA adapter, empty for none."""
    tenant: str = ""
    """Chunks are shared inside a tenant only. Empty: shared by all who set none."""
    kind: str = EXACT
    """`exact`, or what may have been done to the KV: the name of a quality level, and later others."""

    def digest(self) -> bytes:
        """16 bytes that begin every key of this namespace."""
        fields = asdict(self)
        fields["rope"] = dict(self.rope)
        return blake3.blake3(cbor2.dumps(["sluice.namespace.1", fields], canonical=True)).digest(
            length=NAMESPACE_BYTES
        )

    def of_kind(self, kind: str) -> Namespace:
        """The same engine's namespace for another kind of KV."""
        return replace(self, kind=kind)


def namespace_of(key: ChunkKey) -> bytes:
    """The namespace digest that a key begins with."""
    return key[:NAMESPACE_BYTES]


def chunk_keys(
    namespace: bytes,
    tokens: Sequence[int],
    chunk_tokens: int,
    *,
    parent: ChunkKey | None = None,
    extras: Sequence[Any] | None = None,
) -> list[ChunkKey]:
    """Keys of the full chunks of `tokens`, in order; a last partial chunk has none.

    `namespace` is `Namespace.digest()`. To go on with a longer prompt, pass the last key as `parent` and only
    the tokens after it. `extras[i]` is what else decides chunk i's KV, such as the hashes of the images whose
    placeholders it holds, as CBOR values; None adds nothing.

    Raises ValueError for a token id outside 0 .. 2**32 - 1, or a parent of another namespace.
    """
    if len(namespace) != NAMESPACE_BYTES:
        raise ValueError(f"a namespace digest has {NAMESPACE_BYTES} bytes, not {len(namespace)}")
    if parent is not None and namespace_of(parent) != namespace:
        raise ValueError(
            "the parent key belongs to another namespace: tenants and models never share a chain"
        )
    words = _words(tokens)
    step = 4 * chunk_tokens
    size = chunk_tokens.to_bytes(4, "little")
    link = parent[NAMESPACE_BYTES:] if parent is not None else _seed(namespace)
    keys: list[ChunkKey] = []
    for number in range(len(tokens) // chunk_tokens):
        extra = extras[number] if extras is not None else None
        tail = b"" if extra is None else cbor2.dumps(extra, canonical=True)
        link = blake3.blake3(link + size + words[number * step : (number + 1) * step] + tail).digest()
        keys.append(ChunkKey(namespace + link))
    return keys


def _seed(namespace: bytes) -> bytes:
    return blake3.blake3(b"sluice.chunk.1" + namespace).digest()


def _words(tokens: Sequence[int]) -> bytes:
    """Token ids as little-endian 32-bit words."""
    try:
        words = array("I", tokens)
    except (OverflowError, TypeError) as error:
        raise ValueError(f"token ids are integers from 0 to 2**32 - 1: {error}") from error
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()
