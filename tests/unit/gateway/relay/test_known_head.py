from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.known_head import pattern_of

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: a\r\nContent-Length: %b\r\naccept: */*\r\n\r\n"


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_head_is_recognised_whatever_its_length(first: int, second: int) -> None:
    pattern = pattern_of(HEAD % b"%d" % first + b"x" * first)
    assert pattern is not None
    assert pattern.body_behind(HEAD % b"%d" % second + b"y" * second) == b"y" * second


@given(st.binary(max_size=120), st.data())
def test_nothing_but_a_whole_message_is_taken_for_one(noise: bytes, data: st.DataObject) -> None:
    pattern = pattern_of(HEAD % b"5")
    assert pattern is not None
    whole = HEAD % b"5" + b"hello"
    cut = data.draw(st.integers(0, len(whole)))
    for message in (whole[:cut], whole[:cut] + noise + whole[cut:], whole + noise):
        body = pattern.body_behind(message)
        if body is not None:
            assert message == HEAD % b"%d" % len(body) + body


@pytest.mark.parametrize("digits", [b"05", b"+5", b" 5", b"5 ", b"", b"0x5", b"5,5", b"\xb2", b"4", b"6"])
def test_a_length_must_be_written_plainly_and_be_true(digits: bytes) -> None:
    pattern = pattern_of(HEAD % b"5")
    assert pattern is not None
    assert pattern.body_behind(HEAD % digits + b"hello") is None


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: \r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1",
        b"",
    ],
)
def test_heads_without_one_plain_length_have_no_pattern(head: bytes) -> None:
    assert pattern_of(head) is None
