"""Keys are the same everywhere, and differ wherever the KV could."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.keys import KEY_BYTES, Namespace, chunk_keys, namespace_of

BASE = Namespace("m", "w", "r", "bfloat16", {"theta": 1e4, "type": "default"}, bytes(16))
FROZEN = "d6931db33be9ed182cb9c8bfdc922963da02d1b11b1681c330e0d7bec479e9f352393843b333594bb54a3886064efa89"
CHANGES = {
    "model": "n",
    "weights": "v",
    "revision": "s",
    "dtype": "float32",
    "rope": {"theta": 5e5},
    "layout": b"1" * 16,
    "tp_rank": 1,
    "tp_size": 2,
    "pp_rank": 1,
    "pp_size": 2,
    "adapter": "lora",
    "tenant": "t",
    "kind": "lossy:1",
}


def test_every_field_of_a_namespace_changes_its_digest() -> None:
    assert set(CHANGES) == {field.name for field in fields(Namespace)}
    digests = {replace(BASE, **{name: value}).digest() for name, value in CHANGES.items()}  # type: ignore[arg-type]
    assert len(digests | {BASE.digest()}) == len(CHANGES) + 1
    assert BASE.of_kind("lossy:1") == replace(BASE, kind="lossy:1")


def test_the_order_of_rope_parameters_does_not_matter() -> None:
    assert replace(BASE, rope={"type": "default", "theta": 1e4}).digest() == BASE.digest()


def test_keys_are_frozen() -> None:
    keys = chunk_keys(BASE.digest(), list(range(64)), 32)
    assert [len(key) for key in keys] == [KEY_BYTES] * 2
    assert keys[1].hex() == FROZEN
    assert namespace_of(keys[1]) == BASE.digest()


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_keys_do_not_depend_on_the_process(seed: str) -> None:
    program = (
        "import sys; from cache.keys import *;"
        "print(chunk_keys(Namespace('m','w','r','bfloat16',{'theta':1e4,'type':'default'},bytes(16)).digest(),"
        "list(range(64)),32)[1].hex(), any(m in sys.modules for m in ('numpy', 'torch')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [FROZEN, "False"]


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 2**32 - 1), max_size=40), st.integers(1, 9), st.integers(0, 40))
def test_a_longer_prompt_goes_on_where_the_shorter_one_ended(tokens: list[int], size: int, cut: int) -> None:
    whole = chunk_keys(BASE.digest(), tokens, size)
    assert len(whole) == len(tokens) // size
    done = min(cut, len(whole))
    rest = chunk_keys(BASE.digest(), tokens[done * size :], size, parent=whole[done - 1] if done else None)
    assert whole[:done] + rest == whole


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=40), st.data())
def test_one_other_token_changes_its_chunk_and_all_after_it(tokens: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(tokens) - 1))
    other = [*tokens[:place], (tokens[place] + 1) % 2**32, *tokens[place + 1 :]]
    for number, (a, b) in enumerate(
        zip(chunk_keys(BASE.digest(), tokens, 4), chunk_keys(BASE.digest(), other, 4), strict=True)
    ):
        assert (a == b) == (number < place // 4)


def test_extras_and_chunk_sizes_count() -> None:
    digest, tokens = BASE.digest(), list(range(8))
    plain = chunk_keys(digest, tokens, 4)
    image = chunk_keys(digest, tokens, 4, extras=[["image", b"\1"], None])
    assert not set(plain) & set(image)
    assert chunk_keys(digest, tokens, 4, extras=[None, None]) == plain
    assert not set(plain) & set(chunk_keys(digest, tokens, 8))


@pytest.mark.parametrize("token", [-1, 2**32, 1.5])
def test_other_token_ids_are_refused(token: float) -> None:
    with pytest.raises(ValueError, match=r"token ids are integers from 0 to 2\*\*32 - 1"):
        chunk_keys(BASE.digest(), [token], 1)  # type: ignore[list-item]


def test_chains_of_two_namespaces_do_not_mix() -> None:
    (key,) = chunk_keys(BASE.digest(), [1], 1)
    with pytest.raises(ValueError, match="another namespace"):
        chunk_keys(replace(BASE, tenant="t").digest(), [1], 1, parent=key)
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        chunk_keys(b"abc", [1], 1)
