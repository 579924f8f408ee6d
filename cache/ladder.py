"""Adaptive streaming in the store: chunks of a lossy namespace are kept at better levels too, and each batch
of a fetch takes the best level with which the whole fetch is likely to end in time.

What a request asked for is a floor: `small` may be answered with `high` where there is time, never the other
way round. Exact namespaces have no ladder. The better copies lie in the same tier under keys of their own,
and their frames name the chunk that they stand for.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import blake3

from cache.codecs.codec import Codec, UnknownCodec
from cache.codecs.levels import QUALITIES, levels_for
from cache.keys import EXACT, NAMESPACE_BYTES, ChunkKey, Namespace, namespace_of
from cache.stream import LookAhead, Progress, StoredContext, Transfer

_REMEMBERED = 4
"""Transfers that the estimate of a link is made from."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A level at which a namespace's chunks are kept."""

    name: str
    codec: Codec
    bits: float
    """Per element, frames included, as measured."""
    damage: float
    """KL, as measured."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The levels of one lossy namespace: the best first, its own last."""

    namespace: bytes
    """Digest."""
    rungs: tuple[Rung, ...]

    @property
    def own(self) -> int:
        """The level that the namespace itself is kept at."""
        return len(self.rungs) - 1

    def digest(self, level: int) -> bytes:
        """What the keys of a level begin with."""
        if level == self.own:
            return self.namespace
        name = self.rungs[level].name.encode()
        return blake3.blake3(b"sluice.rung.1" + self.namespace + name).digest(length=NAMESPACE_BYTES)

    def key(self, key: ChunkKey, level: int) -> ChunkKey:
        """Under which a chunk of this namespace lies at a level."""
        return ChunkKey(self.digest(level) + key[NAMESPACE_BYTES:])


def ladder_of(namespace: Namespace) -> Ladder | None:
    """The ladder of a namespace by its kind and model.

    None for exact KV, which has no other level; for the best lossy one, which has none above it; and where
    nobody has measured the levels on this model: what is not known cannot be chosen by.
    """
    if namespace.kind == EXACT or namespace.kind not in QUALITIES:
        return None
    levels = levels_for(namespace.weights)
    lossy = [quality for quality in QUALITIES if quality != EXACT]
    chosen = [levels[quality] for quality in lossy[: [str(q) for q in lossy].index(namespace.kind) + 1]]
    if len(chosen) < 2 or not all(level.measured for level in chosen):
        return None
    try:
        rungs = tuple(
            Rung(
                level.quality,
                level.build(),
                float(level.measured["framed_bits_per_element"]),
                float(level.measured["kl"]),
            )
            for level in chosen
        )
    except UnknownCodec:
        return None
    return Ladder(namespace.digest(), rungs)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a batch of a fetch has before it."""

    began: float
    """When the fetch did."""
    chunks: int
    """In this batch."""
    following: int
    """Chunks after it."""


class Streamer:
    """Chooses levels for the batches of one link, which carries one at a time. `slo` is in seconds from the
    beginning of a fetch.

    Computing is not weighed here: a fetch that takes longer than computing is given up by whoever waits.
    """

    def __init__(self, ladders: Mapping[bytes, Ladder], slo: float, chunk_elements: int) -> None:
        """`ladders` by namespace digest; grows as namespaces are opened."""
        self._ladders = ladders
        self._slo = slo
        self._chunk_elements = chunk_elements
        self.chunks: Counter[str] = Counter()
        """Read so far, by level."""
        self._transfers: deque[Transfer] = deque(maxlen=_REMEMBERED)

    def ladder(self, keys: Sequence[ChunkKey]) -> Ladder | None:
        """That of a batch; None if its chunks have only one level, or are of several namespaces."""
        namespaces = {namespace_of(key) for key in keys}
        return self._ladders.get(namespaces.pop()) if len(namespaces) == 1 else None

    def choose(self, ladder: Ladder, ahead: Ahead, now: float) -> int:
        """The level for a batch."""
        batches = [ahead.chunks] * (1 + math.ceil(ahead.following / ahead.chunks))
        context = StoredContext(
            sizes=tuple(
                tuple(math.ceil(chunks * self._chunk_elements * rung.bits / 8) for rung in ladder.rungs)
                for chunks in batches
            ),
            text_seconds=(math.inf,) * len(batches),
            decode_seconds=(0.0,) * len(batches),
            damage=tuple(rung.damage for rung in ladder.rungs),
        )
        policy = LookAhead(default=ladder.own, overlap=False)
        progress = Progress(now - ahead.began, 0, tuple(self._transfers))
        return policy.choose(context, progress, self._slo)

    def observe(self, rung: Rung, sizes: Sequence[int], seconds: float) -> None:
        """Frames of these sizes have come, decoding included: that is what the next ones will take too."""
        if sizes:
            self.chunks[rung.name] += len(sizes)
            self._transfers.append(Transfer(sum(sizes), seconds))


def beside(ladders: Mapping[bytes, Ladder]) -> Callable[[Iterable[ChunkKey]], list[ChunkKey]]:
    """From chunks to where their better copies lie: what has to go when they go."""

    def keys_beside(keys: Iterable[ChunkKey]) -> list[ChunkKey]:
        return [
            ladder.key(key, level)
            for key in keys
            if (ladder := ladders.get(namespace_of(key))) is not None
            for level in range(ladder.own)
        ]

    return keys_beside
