from __future__ import annotations

import hashlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_adapter.fake.block_hash import BlockHasher, ExtraKey, encode_extra, encode_head
from engine_adapter.fake.tokens import Prompt

SEED = "vllm-none-hash"


def reference(
    ids: tuple[int, ...], size: int, lora: tuple[ExtraKey, ...] = (), salt: tuple[ExtraKey, ...] = ()
) -> list[bytes]:
    """The chain written down with a CBOR library."""
    parent = hashlib.sha256(cbor2.dumps(SEED, canonical=True)).digest()
    hashes = []
    for start in range(0, len(ids) // size * size, size):
        extra = lora + salt if start == 0 else lora
        parent = hashlib.sha256(
            cbor2.dumps((parent, ids[start : start + size], extra or None), canonical=True)
        ).digest()
        hashes.append(parent)
    return hashes


@given(st.integers(0, 2**64 - 1))
def test_integers_are_encoded_in_the_shortest_form(value: int) -> None:
    assert encode_head(0, value) == cbor2.dumps(value, canonical=True)


def test_an_integer_beyond_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode_head(0, 2**64)


def test_extra_keys_are_encoded_as_nested_tuples() -> None:
    keys = (("lora", "adapter", "/models/ädapter"), ("cache_salt", "s" * 30))
    assert encode_extra(keys) == cbor2.dumps(keys, canonical=True)
    assert encode_extra(()) == cbor2.dumps(None)


@given(st.text(min_size=0, max_size=300), st.sampled_from([1, 4, 32]))
def test_text_hashes_as_its_token_ids_do(text: str, size: int) -> None:
    prompt = Prompt.from_text(text)
    hashes: list[bytes] = []
    BlockHasher(size, SEED).extend(hashes, prompt, (), ())
    assert hashes == reference(prompt.ids(), size)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=100))
def test_token_prompts_hash_with_integers_of_every_width(ids: list[int]) -> None:
    hashes: list[bytes] = []
    BlockHasher(8, SEED).extend(hashes, Prompt.from_ids(ids), (), ())
    assert hashes == reference(tuple(ids), 8)


def test_the_adapter_marks_every_block_and_the_salt_the_first() -> None:
    lora: tuple[ExtraKey, ...] = (("lora", "a", "/a"),)
    salt: tuple[ExtraKey, ...] = (("cache_salt", "tenant"),)
    prompt = Prompt.from_text("x" * 200)
    hashes: list[bytes] = []
    BlockHasher(16, SEED).extend(hashes, prompt, lora, salt)
    assert hashes == reference(prompt.ids(), 16, lora, salt)


def test_hashing_goes_on_where_it_stopped() -> None:
    text = "the fox ran out of the den " * 20
    hasher = BlockHasher(16, SEED)
    grown: list[bytes] = []
    for end in (100, 300, len(text)):
        hasher.extend(grown, Prompt.from_text(text[:end]), (), ())
    assert grown == reference(Prompt.from_text(text).ids(), 16)


def test_the_seed_is_the_one_published_for_vllm() -> None:
    """Two hashes of a real vLLM 0.32 server's events, low 64 bits, block size 128."""
    ids = [(i * 37) % 4000 + 10 for i in range(300)]
    hashes: list[bytes] = []
    BlockHasher(128, SEED).extend(hashes, Prompt.from_ids(ids), (), ())
    published = [int.from_bytes(h, "big") & (2**64 - 1) for h in hashes]
    assert published == [17820886264799241940, 16357066239566156238]
