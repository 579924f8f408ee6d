"""The bytes that tiers store: frozen, and refused when a single one differs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.frame import (
    HEAD_BYTES,
    MAX_HEAD_BYTES,
    CorruptFrame,
    ForeignVersion,
    FrameError,
    Header,
    PlainHeads,
    TornFrame,
    decode_head,
    encode_head,
    head_bytes,
    payload_intact,
)
from cache.keys import ChunkKey

GOLDEN = Path(__file__).parents[2] / "golden" / "frames"
PAYLOAD = np.arange(256, dtype=np.uint8)
RAW = Header(
    key=ChunkKey(bytes(range(48))),
    layout=bytes(range(100, 116)),
    blocks=2,
    position=64,
    codec="raw",
    config={},
    payload_bytes=PAYLOAD.nbytes,
    digest=xxhash.xxh3_128_digest(PAYLOAD.data),
    written=1_700_000_000,
    expires=0,
)
CODED = RAW._replace(
    codec="example",
    config={"bits": 4, "table": bytes(600)},
    expires=1_800_000_000,
    head_bytes=2 * HEAD_BYTES,
)
FRAMES = {"raw": RAW, "coded": CODED}


@pytest.mark.parametrize("name", FRAMES)
def test_the_format_is_frozen(name: str) -> None:
    golden = (GOLDEN / f"{name}.v1.kv").read_bytes()
    assert encode_head(FRAMES[name]) + PAYLOAD.tobytes() == golden
    header = decode_head(golden)
    assert header == FRAMES[name]
    assert header.frame_bytes == len(golden)
    assert payload_intact(header, np.frombuffer(golden, np.uint8)[header.head_bytes :])


@pytest.mark.parametrize("name", FRAMES)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_flipped_bit_goes_unnoticed(name: str, data: st.DataObject) -> None:
    original = (GOLDEN / f"{name}.v1.kv").read_bytes()
    golden = bytearray(original)
    bit = data.draw(st.integers(0, 8 * len(golden) - 1))
    golden[bit // 8] ^= 1 << bit % 8
    try:
        header = decode_head(bytes(golden))
    except FrameError:
        return
    payload = np.frombuffer(bytes(golden), np.uint8)[header.head_bytes :]
    # Zeros that fill the head up mean nothing.
    padding = bit // 8 < header.head_bytes and not any(original[bit // 8 : header.head_bytes])
    assert not payload_intact(header, payload) or (padding and header == FRAMES[name])


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=2 * HEAD_BYTES))
def test_any_bytes_are_refused_without_a_crash(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_head(data)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=HEAD_BYTES), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_a_right_start_with_anything_after_it_is_refused(data: bytes, blocks: int, length: int) -> None:
    start = b"SLUICEKV\x01\x00" + blocks.to_bytes(2, "little") + length.to_bytes(4, "little")
    with pytest.raises(FrameError):
        decode_head((start + data).ljust(blocks * HEAD_BYTES, b"\1"))


def test_what_is_wrong_has_a_name() -> None:
    head = encode_head(RAW)
    with pytest.raises(TornFrame, match="at least 512 bytes, not 511"):
        decode_head(head[:-1])
    with pytest.raises(TornFrame, match="no frame begins here"):
        head_bytes(b"x" + head[1:])
    with pytest.raises(ForeignVersion, match="version 2; this is version 1"):
        head_bytes(head[:8] + b"\2\0" + head[10:])
    with pytest.raises(TornFrame, match="1024 bytes; 512 are here"):
        decode_head(encode_head(CODED)[:HEAD_BYTES])
    with pytest.raises(CorruptFrame, match="checksum differs"):
        decode_head(head[:50] + b"\0" + head[51:])
    with pytest.raises(ValueError, match="too large for a frame's head"):
        encode_head(RAW._replace(config={"table": bytes(MAX_HEAD_BYTES)}))


def test_a_well_signed_head_of_the_wrong_kind_is_corrupt() -> None:
    import struct

    body = b"\xa1\x61k\x01"
    prefix = struct.pack("<8sHHIQ", b"SLUICEKV", 1, 1, len(body), 0)
    head = (prefix + xxhash.xxh3_128_digest(prefix + body) + body).ljust(HEAD_BYTES, b"\0")
    with pytest.raises(CorruptFrame, match="not a frame's"):
        decode_head(head)


@pytest.mark.parametrize("field", ["b", "p", "t", "x", "c", "g"])
@pytest.mark.parametrize(
    "value",
    [
        Decimal("1e2147483647"),  # as a whole number it has gigabytes
        float("inf"),
        -1,
        1 << 64,
        True,
        None,
        {"levels": Decimal("1e2147483647")},
        {1: 2},
    ],
    ids=str,
)
def test_a_well_signed_head_with_values_that_no_writer_makes(field: str, value: object) -> None:
    """Who may write to a shared tier could sign anything; it is refused before anything is made of it."""
    head = encode_head(RAW)
    length = int.from_bytes(head[12:16], "little")
    fields = cbor2.loads(head[40 : 40 + length]) | {field: value}
    body = cbor2.dumps(fields)
    prefix = head[:12] + len(body).to_bytes(4, "little") + head[16:24]
    signed = (prefix + xxhash.xxh3_128_digest(prefix + body) + body).ljust(HEAD_BYTES, b"\0")
    with pytest.raises(CorruptFrame):
        decode_head(signed)


PLAIN = PlainHeads(RAW.layout, RAW.blocks, RAW.payload_bytes)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=16, max_size=16),
)
def test_plain_heads_are_read_as_any_head_is(
    position: int, written: int, expires: int, digest: bytes
) -> None:
    header = RAW._replace(position=position, written=written, expires=expires, digest=digest)
    assert PLAIN.read(encode_head(header), RAW.key) == header == decode_head(encode_head(header))


@pytest.mark.parametrize(
    "change",
    [
        {"layout": bytes(16)},
        {"blocks": 3},
        {"codec": "example"},
        {"config": {"bits": 4}},
        {"payload_bytes": 255},
        {"key": ChunkKey(bytes(48))},
    ],
)
def test_other_heads_are_left_to_who_takes_them_apart(change: dict[str, Any]) -> None:
    assert PLAIN.read(encode_head(RAW._replace(**change)), RAW.key) is None


def test_no_flipped_bit_makes_a_plain_head_of_it() -> None:
    head = encode_head(RAW)
    used = len(head.rstrip(b"\0")) + 1  # its last byte is a zero
    for bit in range(8 * used):
        flipped = bytearray(head)
        flipped[bit // 8] ^= 1 << bit % 8
        assert PLAIN.read(bytes(flipped), RAW.key) is None


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=40))
def test_numbers_that_no_writer_makes_are_not_read(tail: bytes) -> None:
    """The checksum is right, the rest is anything."""
    head = encode_head(RAW)
    length = int.from_bytes(head[12:16], "little")
    body = head[40 : 40 + length]
    body = body[: body.index(b"ap") + 2] + tail
    prefix = head[:12] + len(body).to_bytes(4, "little") + head[16:24]
    forged = (prefix + xxhash.xxh3_128_digest(prefix + body) + body).ljust(HEAD_BYTES, b"\0")
    found = PLAIN.read(forged, RAW.key)
    assert found is None or min(found.position, found.written, found.expires) >= 0
