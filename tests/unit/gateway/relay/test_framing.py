from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.framing import (
    LAST_CHUNK,
    ChunkedReader,
    FramingError,
    chunk,
    parse_chunk_size,
    whole_chunk,
)

BODIES = {
    "plain": (b"3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n", b"abcdefgh"),
    "upper and lower case, leading zeros": (
        b"00A\r\n0123456789\r\na\r\nabcdefghij\r\n000\r\n\r\n",
        b"0123456789abcdefghij",
    ),
    "extensions": (b'3;name=value;q="a b"\r\nabc\r\n1 ;x\r\nd\r\n0;last\r\n\r\n', b"abcd"),
    "trailers": (b"3\r\nabc\r\n0\r\nexpires: never\r\nx: y\r\n\r\n", b"abc"),
    "payload that looks like framing": (b"d\r\n0\r\n\r\n3\r\nabc\r\n\r\n0\r\n\r\n", b"0\r\n\r\n3\r\nabc\r\n"),
    "empty": (b"0\r\n\r\n", b""),
}


def read(*pieces: bytes) -> tuple[ChunkedReader, bytes]:
    reader = ChunkedReader()
    return reader, b"".join(map(reader.feed, pieces))


@pytest.mark.parametrize(("wire", "payload"), BODIES.values(), ids=BODIES)
def test_every_cut_gives_the_same_payload(wire: bytes, payload: bytes) -> None:

    for first in range(len(wire) + 1):
        for second in range(first, len(wire) + 1):
            reader, got = read(wire[:first], wire[first:second], wire[second:])
            assert got == payload
            assert reader.done
            assert reader.excess == b""


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_any_cut_of_any_body(payloads: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(map(chunk, payloads)) + LAST_CHUNK
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    reader = ChunkedReader()
    got = b"".join(reader.feed(wire[a:b]) for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True))
    assert got == b"".join(payloads)
    assert reader.done


def test_bytes_after_the_end_are_kept_apart() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"1\r\na\r\n0\r\n\r\nHTTP/1.1") == b"a"
    assert reader.feed(b" 200 OK") == b""
    assert reader.excess == b"HTTP/1.1 200 OK"


SIZES = {
    "sign": b"+3",
    "minus": b"-3",
    "underscore": b"1_0",
    "prefix": b"0x3",
    "blank before": b" 3",
    "nothing": b"",
    "only an extension": b";a",
    "letter": b"g",
    "not ASCII": "３".encode(),
    "64 bits and more": b"1" + b"0" * 16,
}


@pytest.mark.parametrize("line", SIZES.values(), ids=SIZES)
def test_malformed_sizes_are_refused(line: bytes) -> None:
    with pytest.raises(FramingError, match="not a hexadecimal number"):
        parse_chunk_size(line)
    with pytest.raises(FramingError):
        ChunkedReader().feed(line + b"\r\nabc\r\n")
    assert not whole_chunk(line + b"\r\na\n\n\r\n")


def test_blank_behind_a_size_is_taken() -> None:
    assert parse_chunk_size(b"1f \t;x=y") == 31
    assert parse_chunk_size(b"F" * 16) == 16**16 - 1


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        (b"3\nabc\r\n", "bare LF"),
        (b"3\r\nabc\n", "bare LF"),
        (b"3\r\nabcd\r\n", "longer than its size"),
        (b"0\r\nx: y\n\r\n", "bare LF"),
        (b"1;" + b"x" * 2000, "line is too long"),
        (b"0\r\nx: " + b"y" * 20_000, "line is too long"),
        (b"0\r\n" + b"x: y\r\n" * 5000, "trailers are too long"),
    ],
)
def test_broken_framing_is_refused_at_every_cut(wire: bytes, says: str) -> None:
    step = max(1, len(wire) // 40)
    for cut in range(0, len(wire), step):
        with pytest.raises(FramingError, match=says):
            read(wire[:cut], wire[cut:])


def test_at_boundary_only_between_chunks() -> None:
    wire = b"3\r\nabc\r\n2\r\nde\r\n"
    boundaries = []
    reader = ChunkedReader()
    for n in range(len(wire)):
        reader.feed(wire[n : n + 1])
        boundaries.append(reader.at_boundary)
    assert [n + 1 for n, at in enumerate(boundaries) if at] == [8, 15]


def test_whole_chunk_takes_exactly_one_chunk_of_whole_events() -> None:
    event = b"data: x\n\n"
    assert whole_chunk(chunk(event))
    assert whole_chunk(chunk(event * 1000))
    assert not whole_chunk(chunk(event) * 2)
    assert not whole_chunk(chunk(b"data: x\n"))
    assert not whole_chunk(chunk(event)[:-1])
    assert not whole_chunk(b"9;x\r\n" + event + b"\r\n")
    assert not whole_chunk(LAST_CHUNK)
    assert not whole_chunk(b"\n\n\r\n")
    assert not whole_chunk(b"")


def test_whole_chunk_knows_every_length_and_no_other_size() -> None:
    for length in range(3, 5000):
        payload = b"x" * (length - 2) + b"\n\n"
        assert whole_chunk(chunk(payload))
        for wrong in (length - 1, length + 1, 16 * length):
            assert not whole_chunk(b"%x\r\n%b\r\n" % (wrong, payload))
        assert not whole_chunk(b"0%x\r\n%b\r\n" % (length, payload))


@pytest.mark.parametrize("start", [b"0", b"\r", b"\n", b"1\r\n"])
def test_a_length_that_no_chunk_has_is_none(start: bytes) -> None:
    for length in (7, 8, 21, 262):
        assert not whole_chunk(start + b"x" * (length - 4 - len(start)) + b"\n\n\r\n")


@given(st.binary(max_size=40))
def test_whole_chunk_agrees_with_the_reader(data: bytes) -> None:
    if whole_chunk(data):
        reader = ChunkedReader()
        assert reader.feed(data).endswith(b"\n\n")
        assert reader.at_boundary


def test_an_empty_payload_is_no_chunk() -> None:
    assert chunk(b"") == b""
    assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
