"""Which tokens stay."""

from __future__ import annotations

import numpy as np
import pytest

from cache.codecs import droppers


@pytest.fixture
def keys() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 40, 8)).astype(np.float32)


def test_streamingllm_keeps_both_ends(keys: np.ndarray) -> None:
    kept = droppers.streamingllm(keys, keys, 10)
    assert kept.shape == (2, 10)
    assert kept[1].tolist() == [0, 1, 2, 3, 34, 35, 36, 37, 38, 39]


def test_knorm_keeps_short_keys(keys: np.ndarray) -> None:
    keys[0, [5, 9]] *= 0.01
    keys[1, [7]] *= 0.01
    assert droppers.knorm(keys, keys, 2)[0].tolist() == [5, 9]
    assert 7 in droppers.knorm(keys, keys, 2)[1]


def test_keydiff_keeps_the_odd_key(keys: np.ndarray) -> None:
    keys[:] = keys[:, :1] + 0.01 * keys
    keys[:, 13] *= -1
    assert droppers.keydiff(keys, keys, 1).tolist() == [[13], [13]]


def test_snapkv_keeps_what_is_asked_for_and_the_window(keys: np.ndarray) -> None:
    queries = np.repeat(50 * keys[:, 11:12], 3, axis=1)
    kept = droppers.snapkv(keys, queries, 16)
    for head in range(2):
        assert {8, 9, 10, 11, 12, 13, 14, 37, 38, 39} <= set(kept[head].tolist())


@pytest.mark.parametrize("rule", droppers.RULES.values(), ids=droppers.RULES)
def test_all_tokens_may_stay(rule: droppers.Rule, keys: np.ndarray) -> None:
    assert rule(keys, keys[:, -3:], 99).tolist() == [list(range(40))] * 2


@pytest.mark.parametrize("name", ["knorm", "keydiff"])
def test_keys_that_are_no_numbers_go_first(name: str, keys: np.ndarray) -> None:
    keys[0, 4, 2] = np.nan
    kept = droppers.RULES[name](keys, keys, 39)
    if name == "knorm":
        assert kept[0].tolist() == [*range(4), *range(5, 40)]
    assert kept.shape == (2, 39)
    assert (np.diff(kept, axis=1) > 0).all()
