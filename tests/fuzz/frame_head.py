"""Frame heads of stored KV. A checksum is no signature: what is behind one is as untrusted as the rest.

The bytes are tried as a head, and as the CBOR map of a head that is right otherwise.
"""

from __future__ import annotations

import struct

import xxhash

from cache.frame import HEAD_BYTES, MAGIC, VERSION, FrameError, decode_head, encode_head

PREFIX = struct.Struct("<8sHHIQ")
ROOM = HEAD_BYTES - PREFIX.size - 16


def one(data: bytes) -> None:
    _decode(data)
    body = data[:ROOM]
    prefix = PREFIX.pack(MAGIC, VERSION, 1, len(body), 4096)
    _decode((prefix + xxhash.xxh3_128_digest(prefix + body) + body).ljust(HEAD_BYTES, b"\0"))


def _decode(head: bytes) -> None:
    try:
        header = decode_head(head)
    except FrameError:
        return
    try:
        encoded = encode_head(header)
    except ValueError:  # a configuration that is too large, or one that no writer makes
        return
    assert decode_head(encoded) == header._replace(head_bytes=len(encoded))
