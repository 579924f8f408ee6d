from __future__ import annotations

import math

import pytest

from gateway.transport.selection import RUN_BYTES, Pending, Select, lost_first, newest_first, oldest_first

SIZE = 100


def pending(*sent: float) -> list[Pending]:
    """Records 1, 2, ... last sent at these times; -1: never."""
    return [Pending(n, bytes(SIZE), min(at, 0.0) if at == -1 else 0.0, at) for n, at in enumerate(sent, 1)]


def numbers(select: Select, records: list[Pending], room: int, lost_before: float = 0.0) -> list[int]:
    return [record.number for record in select(records, room, lost_before)]


def test_the_papers_rule_takes_the_oldest_and_the_newest() -> None:
    assert numbers(oldest_first, pending(1, 1, 1, 1, 1), 3 * SIZE + 2 * RUN_BYTES) == [1, 2, 5]


def test_newest_first_takes_the_newest() -> None:
    assert numbers(newest_first, pending(1, 1, 1, 1, 1), 3 * SIZE + RUN_BYTES) == [3, 4, 5]


def test_lost_ones_come_before_those_never_sent_before_those_on_their_way() -> None:
    records = pending(5, -math.inf, 4, -1, -1)
    assert numbers(lost_first, records, 2 * SIZE + 2 * RUN_BYTES) == [2, 5]
    assert numbers(lost_first, records, 3 * SIZE + 2 * RUN_BYTES) == [2, 4, 5]
    assert numbers(lost_first, records, 4 * SIZE + 3 * RUN_BYTES) == [2, 3, 4, 5]


def test_what_was_sent_longest_ago_counts_as_lost_after_a_while() -> None:
    assert numbers(lost_first, pending(2, 1, 3, 9), SIZE + RUN_BYTES, lost_before=1.5) == [2]


@pytest.mark.parametrize("select", [oldest_first, newest_first, lost_first])
@pytest.mark.parametrize("room", [0, SIZE, SIZE + RUN_BYTES, 3 * SIZE, 10 * SIZE])
def test_no_rule_takes_more_than_there_is_room_for(select: Select, room: int) -> None:
    chosen = select(pending(1, -math.inf, 3, 4, -1, -1), room, 2.0)
    gaps = sum(1 for a, b in zip(chosen, chosen[1:], strict=False) if b.number != a.number + 1)
    assert SIZE * len(chosen) + RUN_BYTES * (gaps + bool(chosen)) <= room or not chosen
    assert [r.number for r in chosen] == sorted(r.number for r in chosen)
    if room >= SIZE + RUN_BYTES:
        assert chosen[-1].number == 6
