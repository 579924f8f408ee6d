from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.sse import Event, EventParser

BODY = (
    b"id: 7\ndata: a\n\n"
    b": ping\ndata: b\n\n"
    b"event: x\r\ndata: c\r\ndata: d\r\n\r\n"
    b": alone\n\n"
    b"data:e\n\n"
    b"data: unfinished"
)
EVENTS = [Event(b"a", 7), Event(b"b", None), Event(b"c\nd", None), Event(b"e", None)]


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    parser = EventParser()
    ends = [0, *sorted(cuts), len(BODY)]
    found = [event for a, b in zip(ends, ends[1:], strict=False) for event in parser.feed(BODY[a:b])]
    assert found == EVENTS


@pytest.mark.parametrize("block", [b"id: 4\n\n", b"retry: 3\n\n", b"\n\n", b"id: x\n\n"])
def test_blocks_without_data_are_no_events(block: bytes) -> None:
    assert EventParser().feed(block) == []
