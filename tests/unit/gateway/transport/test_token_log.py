from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.token_log import EVENT_OVERHEAD, TokenLog, Truncated


def test_numbers_count_from_one() -> None:
    log = TokenLog(10_000)
    assert log.append(b"a", 1.0) == 1
    assert log.append(b"b", 2.0) == 2
    assert log.after(0) == [b"a", b"b"]
    assert log.after(1) == [b"b"]
    assert log.after(2) == []
    assert (log.first, log.last) == (1, 2)


def test_the_oldest_go_first_and_the_newest_never() -> None:
    log = TokenLog(3 * (EVENT_OVERHEAD + 1))
    for letter in b"abcd":
        log.append(bytes((letter,)), 0.0)
    assert log.after(1) == [b"b", b"c", b"d"]
    with pytest.raises(Truncated) as gone:
        log.after(0)
    assert gone.value.first == 2
    log.append(b"x" * 5000, 0.0)
    assert log.after(4) == [b"x" * 5000]
    assert log.first == log.last == 5


def test_late_counts_what_came_before_a_moment() -> None:
    log = TokenLog(10_000)
    for number in range(10):
        log.append(b"x", float(number))
    assert log.late(0, 10, 5.0) == 5
    assert log.late(4, 5, 5.0) == 1
    assert log.late(5, 6, 5.0) == 0
    assert log.size_of(2, 7) == 5


@given(st.lists(st.binary(max_size=200), max_size=600), st.integers(1, 5_000), st.data())
def test_what_is_kept_is_a_run_and_within_the_bound(
    events: list[bytes], limit: int, data: st.DataObject
) -> None:
    log = TokenLog(limit)
    for event in events:
        log.append(event, 0.0)
    kept = log.after(log.first - 1)
    assert kept == events[log.first - 1 :]
    assert log.size == sum(len(event) + EVENT_OVERHEAD for event in kept)
    assert log.size <= limit or len(kept) == 1
    if events:
        after = data.draw(st.integers(log.first - 1, log.last))
        assert log.after(after) == events[after:]
