"""Tables in parts behave as one table."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.segments import GENERATIONS, MOST_GENERATIONS, BlockMap, RecentMap

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "add", "pop", "renew", "oldest"]), st.integers(0, 20)), max_size=60
)


@given(STEPS)
def test_a_map_has_what_was_put_in_and_not_taken_out(steps: list[tuple[str, int]]) -> None:
    ours: RecentMap[int] = RecentMap()
    plain: dict[int, int] = {}
    for step, key in steps:
        if step == "put":
            ours.put(key, key + 1)
            plain[key] = key + 1
        elif step == "add":
            keys = [key, key + 1, key + 2]
            fresh = [k for k in keys if k not in plain]
            assert list(ours.add(keys, keys)) == fresh
            plain.update({k: k for k in fresh})
        elif step == "pop":
            assert ours.pop(key) == plain.pop(key, None)
        elif step == "oldest":
            taken = ours.pop_oldest(3)
            assert len(taken) == min(3, len(plain))
            for gone, value in taken:
                assert plain.pop(gone) == value
        elif key in plain:
            ours.renew([key])
        else:
            with pytest.raises(KeyError):
                ours.renew([key])
        assert len(ours) == len(plain)
        assert ours.get(key) == plain.get(key)
        assert (key in ours) == (key in plain)
        assert len(ours.generations) <= MOST_GENERATIONS
    assert dict(pair for part in ours.take() for pair in part.items()) == plain
    assert len(ours) == 0


def test_what_was_not_used_for_long_goes_first() -> None:
    random = Random(0)
    ours: RecentMap[int] = RecentMap()
    keys = [random.getrandbits(64) for _ in range(16_000)]
    for start in range(0, len(keys), 100):
        some = keys[start : start + 100]
        assert ours.add(some, some) == some
    ours.renew(keys[:4_000])
    age = {key: place for place, key in enumerate([*keys[4_000:], *keys[:4_000]])}
    taken = [age[key] for key, _ in ours.pop_oldest(len(keys) + 1)]
    assert sorted(taken) == list(range(len(keys)))
    assert taken[:12_000] == list(range(12_000)), "in the order of use where nothing was used again"
    assert ours.pop_oldest(1) == []


def test_no_generation_of_a_large_map_is_much_more_than_its_share() -> None:
    random = Random(0)
    ours: RecentMap[int] = RecentMap()
    keys = [random.getrandbits(64) for _ in range(40_000)]
    for start in range(0, len(keys), 50):
        ours.add(keys[start : start + 50], [1] * 50)
        if len(ours) > 20_000:
            ours.pop_oldest(50)
    assert max(map(len, ours.take())) < 2 * 20_000 / GENERATIONS


def test_as_many_are_taken_as_weigh_enough() -> None:
    ours: RecentMap[int] = RecentMap()
    ours.add([1, 2, 3, 4], [10, 20, 30, 40])
    assert ours.pop_oldest(9, 25) == [(1, 10), (2, 20)]
    assert ours.pop_oldest(1, 999) == [(3, 30)]


@pytest.mark.parametrize("kind", ["int", "bytes"])
def test_blocks_by_hashes_of_both_kinds(kind: str) -> None:
    random = Random(0)
    hashes = [random.getrandbits(64) if kind == "int" else random.randbytes(32) for _ in range(1000)]
    ours: BlockMap[int] = BlockMap()
    for number, key in enumerate(hashes):
        ours.put(key, number)
        ours.put(key, number + 1)
    assert len(ours) == 1000
    assert [ours.get(key) for key in hashes] == list(range(1, 1001))
    for key in hashes[:300] * 2:
        ours.pop(key)
    assert len(ours) == 700
    assert ours.get(hashes[0]) is None
    assert sum(map(len, ours.take())) == 700
    assert len(ours) == 0
