"""Which tokens stay."""

from __future__ import annotations

import numpy as np
import pytest

from cache.codecs import droppers


@pytest.fixture
def keys() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 40, 8)).astype(np.float32)


def test_streamingllm_keeps_both_ends(keys: np.ndarray) -> None:
    kept = droppers.streamingllm(keys, 10)
    assert kept.shape == (2, 10)
    assert kept[1].tolist() == [0, 1, 2, 3, 34, 35, 36, 37, 38, 39]


def test_knorm_keeps_short_keys(keys: np.ndarray) -> None:
    keys[0, [5, 9]] *= 0.01
    keys[1, [7]] *= 0.01
    assert droppers.knorm(keys, 2)[0].tolist() == [5, 9]
    assert 7 in droppers.knorm(keys, 2)[1]


def test_keydiff_keeps_the_odd_key(keys: np.ndarray) -> None:
    keys[:] = keys[:, :1] + 0.01 * keys
    keys[:, 13] *= -1
    assert droppers.keydiff(keys, 1).tolist() == [[13], [13]]


def test_snapkv_keeps_what_is_asked_for_and_the_window(keys: np.ndarray) -> None:
    queries = np.repeat(50 * keys[:, 11:12], 3, axis=1)
    kept = droppers.snapkv(keys, 10, queries=queries, pool=3)
    for head in range(2):
        assert {10, 11, 12, 37, 38, 39} <= set(kept[head].tolist())


@pytest.mark.parametrize("select", [droppers.streamingllm, droppers.knorm, droppers.keydiff])
def test_all_tokens_may_stay(select: object, keys: np.ndarray) -> None:
    kept = select(keys, 99)  # type: ignore[operator]
    assert kept.tolist() == [list(range(40))] * 2


def test_bytes_count_the_positions(keys: np.ndarray) -> None:
    assert droppers.dropped_bytes(droppers.knorm(keys, 10), 40, 8, 2) == 2 * (2 * 10 * 8 * 2 + 5)
