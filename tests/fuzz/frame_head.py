"""Frame heads of stored KV. A checksum is no signature: what is behind one is as untrusted as the rest.

The bytes are tried as a head, as the CBOR map of a head that is right otherwise, and as choices of what such
a map says.
"""

from __future__ import annotations

import struct

import cbor2
import xxhash

from cache.frame import HEAD_BYTES, MAGIC, VERSION, FrameError, decode_head, encode_head

PREFIX = struct.Struct("<8sHHIQ")
MAP_AT = PREFIX.size + 16
NAMES = "klbpcgdtx"
VALUES = tuple(
    cbor2.dumps(value)
    for value in (
        0,
        -1,
        2**70,
        1.5,
        float("inf"),
        float("nan"),
        None,
        True,
        "",
        "raw",
        "12",
        b"d" * 16,
        b"k" * 48,
        [],
        {},
    )
) + (
    *(
        b"\x81" * 200 + b"\x00",
        b"\xc4\x82\x1a\x7f\xff\xff\xff\x01",
        b"\xd8\x23\x61(",
        b"\xf7",
        b"\xd8\x24\x60",
    ),
    *(
        b"\xa1\x01\x02",
        b"\xa1\xfb\x7f\xf8" + b"\0" * 6 + b"\x00",
        b"\xc0\x60",
        b"\xc1\xfb\x7f\xf0" + b"\0" * 6,
        b"\xff",
    ),
)
"""Right and wrong ones: what is no number, tags that a decoder interprets, depth, what is no CBOR."""


def one(data: bytes) -> None:
    _decode(data)
    _as_map(data)
    said = zip(NAMES, data, strict=False)
    entries = [cbor2.dumps(name) + VALUES[byte % len(VALUES)] for name, byte in said]
    _as_map(bytes((0xA0 + len(entries),)) + b"".join(entries))


def _as_map(body: bytes) -> None:
    blocks = -(-(MAP_AT + len(body)) // HEAD_BYTES)
    prefix = PREFIX.pack(MAGIC, VERSION, blocks, len(body), 4096)
    checksum = xxhash.xxh3_128_digest(prefix + body)
    _decode((prefix + checksum + body).ljust(blocks * HEAD_BYTES, b"\0"))


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
