"""Where a prompt's text could be shared with another's: chained hashes of its raw JSON bytes.

A chunk's hash covers everything before it, so a set of known hashes answers "how long a prefix?" by
bisection: if one chunk is known, so are all before it. Chunks grow with their offset (256 bytes at the start,
a few per cent of the offset later), so half a megabyte of prompt is some 230 hashes. xxh3 is not collision
resistant: a forged collision costs a wrong estimate and nothing else, so never use these keys for content.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

import msgspec
from xxhash import xxh3_64_intdigest

from gateway.routing.media import LOOK_FROM, Span, media_spans, text_bytes

FIRST_CHUNK = 256
CHUNKS_PER_OCTAVE = 32
"""A chunk is doubled when the offset reaches 64 of them, so it is 1/64 to 1/32 of the offset."""
ALIKE = FIRST_CHUNK * 2 * CHUNKS_PER_OCTAVE
"""Chunks that end before this have the size of the first."""


def chunk_end(index: int) -> int:
    """Offset in bytes at which chunk number `index` (from 0) ends."""
    if index < 2 * CHUNKS_PER_OCTAVE:
        return FIRST_CHUNK * (index + 1)
    octave, step = divmod(index - 2 * CHUNKS_PER_OCTAVE, CHUNKS_PER_OCTAVE)
    return (FIRST_CHUNK << (octave + 1)) * (CHUNKS_PER_OCTAVE + step + 1)


MAX_CHUNKS = 2 * CHUNKS_PER_OCTAVE + 16 * CHUNKS_PER_OCTAVE
"""Covers 1 GiB; what lies beyond counts as never cached."""
BOUNDS: tuple[int, ...] = (0, *(chunk_end(i) for i in range(MAX_CHUNKS)))
"""`BOUNDS[k]`: bytes covered by the first `k` chunks."""
STEPS: list[int] = [BOUNDS[i] - BOUNDS[i - 1] for i in range(MAX_CHUNKS, 0, -1)]
"""Bytes of each chunk, deepest first."""
_CHUNKS = tuple(slice(start, end) for start, end in zip(BOUNDS, BOUNDS[1:], strict=False))


class Fingerprint(msgspec.Struct, eq=False):
    """The prefixes of one prompt.

    `hashes` runs from the deepest prefix to the shallowest, which is the order in which an LRU cache
    should be touched for tails to go first, and ascending for a bisection on "is known".
    """

    hashes: list[int]
    head_bytes: int
    body_bytes: int
    total_bytes: int
    """Size of the prompt as a measure of its tokens (see `media`)."""
    media: tuple[Span, ...] = ()

    @classmethod
    def of(
        cls, hashes: list[int], head_bytes: int, body_bytes: int, media: tuple[Span, ...] = ()
    ) -> Fingerprint:
        """Of a prompt whose base64 data lies at `media`."""
        return cls(hashes, head_bytes, body_bytes, head_bytes + text_bytes(body_bytes, media), media)

    def covered(self, depth: int) -> int:
        """The part of `total_bytes` that the longest of the `depth` shallowest prefixes covers."""
        head = self.head_bytes
        if head and depth:
            depth -= 1
        elif head:
            return 0
        end = BOUNDS[depth]
        return head + (text_bytes(end, self.media) if self.media else end)

    def sizes(self, depth: int) -> list[int]:
        """What each prefix deeper than `depth` adds to the one before it, deepest first."""
        chunks = len(self.hashes)
        if self.media:
            covered = [self.covered(k) for k in range(chunks, depth - 1, -1)]
            return [more - less for more, less in zip(covered, covered[1:], strict=False)]
        if not self.head_bytes:
            return STEPS[len(STEPS) - chunks : len(STEPS) - depth]
        steps = STEPS[len(STEPS) + 1 - chunks : len(STEPS) + 1 - max(1, depth)]
        return steps if depth else [*steps, self.head_bytes]


@lru_cache(256)
def _seed(model: str) -> int:
    return xxh3_64_intdigest(model.encode())


def fingerprint(model: str, head: bytes, body: bytes) -> Fingerprint:
    """Hash `head` as one unit and `body` in whole chunks; a shorter rest is in no prefix."""
    digest = xxh3_64_intdigest
    key = _seed(model)
    hashes: list[int] = []
    head_bytes, size = 0, len(body)
    if head:
        head_bytes = len(head)
        key = digest(head, key)
        hashes.append(key)
    count = size // FIRST_CHUNK if size < ALIKE else bisect_right(BOUNDS, size) - 1
    for chunk in _CHUNKS[:count]:
        key = digest(body[chunk], key)
        hashes.append(key)
    hashes.reverse()
    if size < LOOK_FROM:
        return Fingerprint(hashes, head_bytes, size, head_bytes + size)
    return Fingerprint.of(hashes, head_bytes, size, media_spans(body))
