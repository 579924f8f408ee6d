"""The bytes that every tier stores: a head that describes itself, then the payload. Both are checksummed.

    0   magic "SLUICEKV"                8
    8   version                         2   little-endian, as all numbers
    10  head blocks of 512 bytes        2
    12  bytes of the CBOR map           4
    16  bytes of the payload            8
    24  xxh3-128 of head[0:24] + CBOR  16
    40  CBOR map
        zeros up to the end of the head

The map: `k` key, `l` layout fingerprint, `b` engine blocks, `p` position of the first token, `c` codec, `g`
its configuration, `d` xxh3-128 of the payload, `t` wall-clock second of writing, `x` of expiry (0: none). The
payload begins at a multiple of 512 bytes, so a raw one is read straight into an arena slot. Golden files
freeze the format.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import cbor2
import numpy as np
import numpy.typing as npt
import xxhash

from cache.keys import KEY_BYTES, ChunkKey

MAGIC = b"SLUICEKV"
VERSION = 1
HEAD_BYTES = 512
"""What a reader fetches first. Longer heads are multiples of it."""
MAX_HEAD_BYTES = 64 * HEAD_BYTES
_PREFIX = struct.Struct("<8sHHIQ")
_CHECKSUM_BYTES = 16
_MAP_AT = _PREFIX.size + _CHECKSUM_BYTES
_NOT_A_MAP = (cbor2.CBORDecodeError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError)
"""What a decoder may raise on bytes that fit their checksum, and were written by no writer of ours."""


_NOTHING: Mapping[str, Any] = {}


class FrameError(ValueError):
    """The bytes are no frame that this version reads."""


class TornFrame(FrameError):
    """No frame begins here, or its length is wrong."""


class CorruptFrame(FrameError):
    """A checksum differs, or the head's map is not what a writer makes."""


class ForeignVersion(FrameError):
    """A frame of another format version."""


class Header(NamedTuple):
    """What a frame says about itself."""

    key: ChunkKey
    layout: bytes
    """`KVLayout.fingerprint()` of the writer."""
    blocks: int
    position: int
    codec: str
    config: Mapping[str, Any]
    payload_bytes: int
    digest: bytes
    """xxh3-128 of the payload."""
    written: int
    expires: int
    """Wall-clock seconds; 0: never."""
    head_bytes: int = HEAD_BYTES

    @property
    def frame_bytes(self) -> int:
        return self.head_bytes + self.payload_bytes


def encode_head(header: Header) -> bytes:
    """The bytes before the payload, a multiple of HEAD_BYTES; `header.head_bytes` is computed, not read.

    Raises ValueError if the codec's configuration makes them longer than MAX_HEAD_BYTES.
    """
    body = cbor2.dumps(
        {
            "k": header.key,
            "l": header.layout,
            "b": header.blocks,
            "p": header.position,
            "c": header.codec,
            "g": dict(header.config),
            "d": header.digest,
            "t": header.written,
            "x": header.expires,
        },
        canonical=True,
    )
    blocks = -(-(_MAP_AT + len(body)) // HEAD_BYTES)
    if blocks * HEAD_BYTES > MAX_HEAD_BYTES:
        raise ValueError(f"a codec configuration of {len(body)} bytes is too large for a frame's head")
    prefix = _PREFIX.pack(MAGIC, VERSION, blocks, len(body), header.payload_bytes)
    checksum = xxhash.xxh3_128_digest(prefix + body)
    return (prefix + checksum + body).ljust(blocks * HEAD_BYTES, b"\0")


def head_bytes(start: bytes | memoryview) -> int:
    """Size of the head that begins with `start`, of which the first HEAD_BYTES are there.

    Raises TornFrame or ForeignVersion.
    """
    if len(start) < HEAD_BYTES:
        raise TornFrame(f"a frame has at least {HEAD_BYTES} bytes, not {len(start)}")
    magic, version, blocks, _, _ = _PREFIX.unpack_from(start)
    if magic != MAGIC:
        raise TornFrame("no frame begins here")
    if version != VERSION:
        raise ForeignVersion(f"frame version {version}; this is version {VERSION}")
    size = int(blocks) * HEAD_BYTES
    if not HEAD_BYTES <= size <= MAX_HEAD_BYTES:
        raise TornFrame(f"a head of {size} bytes")
    return size


def decode_head(head: bytes | memoryview) -> Header:
    """Read and verify a whole head. Raises FrameError: TornFrame, CorruptFrame or ForeignVersion."""
    size = head_bytes(head)
    if len(head) < size:
        raise TornFrame(f"the head has {size} bytes; {len(head)} are here")
    _, _, _, length, payload = _PREFIX.unpack_from(head)
    if _MAP_AT + length > size:
        raise TornFrame(f"a map of {length} bytes in a head of {size}")
    start = bytes(head[: _MAP_AT + length])
    body = start[_MAP_AT:]
    if xxhash.xxh3_128_digest(start[: _PREFIX.size] + body) != start[_PREFIX.size : _MAP_AT]:
        raise CorruptFrame("the head's checksum differs")
    try:
        fields = cbor2.loads(body)
        return Header(
            key=ChunkKey(_bytes(fields["k"], KEY_BYTES)),
            layout=_bytes(fields["l"], 16),
            blocks=_integer(fields["b"]),
            position=_integer(fields["p"]),
            codec=_text(fields["c"]),
            config=_map(fields["g"]),
            payload_bytes=int(payload),
            digest=_bytes(fields["d"], 16),
            written=_integer(fields["t"]),
            expires=_integer(fields["x"]),
            head_bytes=size,
        )
    except _NOT_A_MAP as error:
        raise CorruptFrame(f"the head's map is not a frame's: {error}") from error


class PlainHeads:
    """Reads heads of raw frames of one shape, which most are, without taking their maps apart.

    What such a head says of layout, blocks and codec is always the same bytes in the same places, so it is
    compared; only digest and numbers are read. Whatever differs is `decode_head`'s business.
    """

    def __init__(self, layout: bytes, blocks: int, payload_bytes: int) -> None:
        """`layout` is `KVLayout.fingerprint()`; the others as in `Header`."""
        self.layout = layout
        self._blocks = blocks
        self._payload_bytes = payload_bytes
        start = b"\xa9ab" + cbor2.dumps(blocks) + b"accrawadP"
        middle = b"ag\xa0akX" + bytes([KEY_BYTES])
        end = b"al" + cbor2.dumps(layout) + b"ap"
        sizes = len(start), _CHECKSUM_BYTES, len(middle), KEY_BYTES, len(end)
        self._parts = struct.Struct("<12sIQ16s{}s{}s{}s{}s{}s".format(*sizes))
        self._first = _PREFIX.pack(MAGIC, VERSION, 1, 0, 0)[:12]
        self._start, self._middle, self._end = start, middle, end

    def read(self, head: bytes | memoryview, key: ChunkKey) -> Header | None:
        """The header, verified, if it is of a raw frame of this shape and this key; None if it has to be
        looked at more closely. `head` has at least HEAD_BYTES bytes."""
        first, length, nbytes, checksum, start, digest, middle, found, end = self._parts.unpack_from(head)
        if (
            found != key
            or nbytes != self._payload_bytes
            or first != self._first
            or start != self._start
            or middle != self._middle
            or end != self._end
            or length > HEAD_BYTES - _MAP_AT
        ):
            return None
        whole = bytes(head[: _MAP_AT + length])
        if xxhash.xxh3_128_digest(whole[: _PREFIX.size] + whole[_MAP_AT:]) != checksum:
            return None
        try:
            # The numbers and their names, as a list instead of the end of a map.
            position, _, written, _, expires = cbor2.loads(b"\x85" + whole[self._parts.size :])
            if (position | written | expires) >> 63:  # negative, or larger than any writer makes it
                return None
        except _NOT_A_MAP:
            return None
        return Header(
            key, self.layout, self._blocks, position, "raw", _NOTHING, nbytes, digest, written, expires
        )


def payload_intact(header: Header, payload: npt.NDArray[np.uint8]) -> bool:
    """Whether these are the bytes that were written. Releases the GIL while hashing."""
    return payload.nbytes == header.payload_bytes and xxhash.xxh3_128_digest(payload.data) == header.digest


def _map(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("expected a map")
    _refuse_what_no_writer_makes(value)
    return value


def _refuse_what_no_writer_makes(value: Any) -> None:
    """CBOR's tags make decimals, dates and expressions; a short decimal can be a number of gigabytes."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _text(name)
            _refuse_what_no_writer_makes(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_what_no_writer_makes(inner)
    elif value is not None and type(value) not in (bool, int, float, str, bytes):
        raise TypeError(f"a {type(value).__name__} in the codec's configuration")


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError("expected a number from 0 on")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _bytes(value: Any, length: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise ValueError(f"expected {length} bytes")
    return value
