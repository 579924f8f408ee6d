"""vLLM's `sha256_cbor` block hashes, reproduced without vLLM.

A block's hash is SHA-256 over the canonical CBOR of `(parent hash, tuple of token ids, extra keys or None)`;
the first block's parent is SHA-256 of the CBOR of the seed. Source: `vllm/v1/core/kv_cache_utils.py`,
`hash_block_tokens` and `init_none_hash`. Text tokens are four bytes with a non-zero first byte, so their CBOR
is `0x1a` and those bytes: a whole prompt is encoded by five strided copies.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from engine_adapter.fake.tokens import BYTES_PER_TOKEN, Prompt

ExtraKey = tuple[str, ...]
"""What sets a block apart beside its tokens: `("lora", name, path)` or `("cache_salt", salt)`."""

_ENCODED_TOKEN = BYTES_PER_TOKEN + 1


def encode_head(major: int, value: int) -> bytes:
    """Shortest CBOR head of a major type and its unsigned argument (RFC 8949, section 4.2.1)."""
    if value < 24:
        return bytes((major << 5 | value,))
    for size, code, marker in ((1, ">B", 24), (2, ">H", 25), (4, ">I", 26), (8, ">Q", 27)):
        if value < 1 << 8 * size:
            return bytes((major << 5 | marker,)) + struct.pack(code, value)
    raise ValueError(f"{value} does not fit a CBOR integer of 64 bits")


def _encode_text(text: str) -> bytes:
    encoded = text.encode()
    return encode_head(3, len(encoded)) + encoded


def encode_extra(keys: tuple[ExtraKey, ...]) -> bytes:
    """Canonical CBOR of a block's extra keys; no keys are null."""
    if not keys:
        return b"\xf6"
    parts = [encode_head(4, len(keys))]
    for key in keys:
        parts.append(encode_head(4, len(key)))
        parts.extend(map(_encode_text, key))
    return b"".join(parts)


def none_hash(seed: str) -> bytes:
    """The parent of every first block."""
    return hashlib.sha256(_encode_text(seed)).digest()


def _encoded_blocks(prompt: Prompt, block_size: int, first: int, last: int) -> Iterator[bytes]:
    """CBOR of the token ids of blocks `first` to `last - 1`, without the array's head."""
    packed = prompt.packed
    if packed is not None:
        part = packed[first * block_size * BYTES_PER_TOKEN : last * block_size * BYTES_PER_TOKEN]
        if 0 not in part[::BYTES_PER_TOKEN]:
            tokens = len(part) // BYTES_PER_TOKEN
            encoded = bytearray(tokens * _ENCODED_TOKEN)
            encoded[::_ENCODED_TOKEN] = b"\x1a" * tokens
            for offset in range(BYTES_PER_TOKEN):
                encoded[offset + 1 :: _ENCODED_TOKEN] = part[offset::BYTES_PER_TOKEN]
            step = block_size * _ENCODED_TOKEN
            for start in range(0, tokens * _ENCODED_TOKEN, step):
                yield bytes(encoded[start : start + step])
            return
    ids = prompt.ids()
    for block in range(first, last):
        yield b"".join(encode_head(0, i) for i in ids[block * block_size : (block + 1) * block_size])


class BlockHasher:
    """Hashes full blocks as vLLM does with `--prefix-caching-hash-algo sha256_cbor`."""

    def __init__(self, block_size: int, seed: str) -> None:
        self.block_size = block_size
        self._root = none_hash(seed)
        self._array_head = encode_head(4, block_size)

    def extend(
        self, hashes: list[bytes], sequence: Prompt, lora: tuple[ExtraKey, ...], salt: tuple[ExtraKey, ...]
    ) -> None:
        """Append to `hashes` those of the full blocks of `sequence` that it does not hold yet.

        `lora` keys go into every block, `salt` keys into the first only.
        """
        first, last = len(hashes), sequence.count // self.block_size
        if first >= last:
            return
        parent = hashes[-1] if hashes else self._root
        tail = encode_extra(lora)
        for number, tokens in enumerate(_encoded_blocks(sequence, self.block_size, first, last), start=first):
            extra = encode_extra(lora + salt) if number == 0 else tail
            parent = hashlib.sha256(b"\x83\x58\x20" + parent + self._array_head + tokens + extra).digest()
            hashes.append(parent)
