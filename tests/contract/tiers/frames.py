"""Frames and landings for tests of tiers."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import xxhash

from cache.arena import Arena
from cache.codecs import registry
from cache.frame import Header, encode_head
from cache.keys import ChunkKey, Namespace, chunk_keys
from cache.landing import FrameLanding
from cache.layout import KVLayout
from cache.tiers.tier import Bytes, Fault, Frame, Tier

LAYOUT = KVLayout(layers=2, kv_heads=2, head_dim=16, dtype="bfloat16", block_tokens=16, page_format="plain")
CHUNK_BYTES = LAYOUT.block_bytes
"""Of a raw chunk of one block."""


def deadline(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


def namespace(tenant: str = "") -> Namespace:
    return Namespace(
        "model", "weights", "main", "bfloat16", {"theta": 10000.0}, LAYOUT.fingerprint(), tenant=tenant
    )


def keys(count: int, *, tenant: str = "", start: int = 0) -> list[ChunkKey]:
    tokens = range(start, start + count * LAYOUT.block_tokens)
    return chunk_keys(namespace(tenant).digest(), list(tokens), LAYOUT.block_tokens)


def payload(seed: int, nbytes: int = CHUNK_BYTES) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def frame(key: ChunkKey, seed: int, nbytes: int = CHUNK_BYTES, **changes: object) -> Frame:
    body = payload(seed, nbytes)
    fields: dict[str, object] = {
        "key": key,
        "layout": LAYOUT.fingerprint(),
        "blocks": 1,
        "position": 0,
        "codec": "raw",
        "config": {},
        "payload_bytes": nbytes,
        "digest": xxhash.xxh3_128_digest(body.data),
        "written": 0,
        "expires": 0,
    }
    return Frame(key, encode_head(Header(**(fields | changes))), body)  # type: ignore[arg-type]


class Reader:
    """Reads frames into an arena of its own."""

    def __init__(self, slots: int = 64) -> None:
        self.arena = Arena(slots * (CHUNK_BYTES + 64), CHUNK_BYTES)

    def read(self, tier: Tier, wanted: Sequence[ChunkKey], seconds: float = 60.0) -> list[bytes | Fault]:
        """The payload of each key, verified, or why there is none."""
        refs = []
        for _ in wanted:
            ref = self.arena.allocate(CHUNK_BYTES)
            assert ref is not None
            refs.append(ref)
        landing = FrameLanding(
            self.arena, LAYOUT, 1, wanted, refs, lambda _: True, wall=time.time(), make=registry.make
        )
        faults = landing.finish(tier.get(wanted, landing, deadline(seconds)))
        answers: list[bytes | Fault] = []
        for number, fault in enumerate(faults):
            answers.append(self.arena.memory(refs[number]).tobytes() if fault is None else fault)
            self.arena.free(refs[number])
        return answers
