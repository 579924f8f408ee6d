from __future__ import annotations

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.fingerprint import BOUNDS, fingerprint
from gateway.routing.media import MEDIA_BYTES, media_spans


def common(a: list[int], b: list[int]) -> int:
    """How many of the shallowest prefixes two fingerprints share."""
    return sum(1 for x, y in zip(reversed(a), reversed(b), strict=False) if x == y)


def test_chunks_start_small_and_stay_a_few_per_cent_of_the_offset() -> None:
    assert BOUNDS[:4] == (0, 256, 512, 768)
    sizes = [b - a for a, b in zip(BOUNDS, BOUNDS[1:], strict=False)]
    assert sizes == sorted(sizes)
    assert all(size <= max(256, start / 32) for start, size in zip(BOUNDS, sizes, strict=False))
    assert BOUNDS[-1] >= 1 << 30


def test_half_a_megabyte_is_a_few_hundred_chunks() -> None:
    assert 200 < len(fingerprint("m", b"", bytes(500_000)).hashes) < 256


@given(st.integers(0, 40_000), st.integers(0, 3_000), st.integers(0, 3_000))
def test_prompts_share_exactly_the_whole_chunks_of_their_common_prefix(shared: int, a: int, b: int) -> None:
    text = bytes(i * 7 % 251 for i in range(shared))
    one = fingerprint("m", b"", text + b"x" * a)
    other = fingerprint("m", b"", text + b"y" * b)
    depth = common(one.hashes, other.hashes)
    assert one.covered(depth) <= shared
    if a and b:
        assert depth == max(k for k in range(len(BOUNDS)) if BOUNDS[k] <= shared)


def test_a_longer_prompt_continues_the_fingerprint_of_its_beginning() -> None:
    turn = fingerprint("m", b"tools", b"a" * 70_000)
    next_turn = fingerprint("m", b"tools", b"a" * 70_000 + b"b" * 9_000)
    assert next_turn.hashes[-len(turn.hashes) :] == turn.hashes


def test_head_and_model_separate_prompts_with_equal_bodies() -> None:
    body = bytes(5_000)
    plain = fingerprint("m", b"", body)
    assert common(plain.hashes, fingerprint("m2", b"", body).hashes) == 0
    assert common(plain.hashes, fingerprint("m", b"salt", body).hashes) == 0


def test_a_head_is_one_prefix_of_its_own_length() -> None:
    prompt = fingerprint("m", b"h" * 1_000, b"b" * 600)
    assert len(prompt.hashes) == 3
    assert [prompt.covered(k) for k in range(4)] == [0, 1_000, 1_256, 1_512]
    assert prompt.total_bytes == 1_600


def test_keys_do_not_change_between_releases() -> None:
    """They are exchanged between gateways, so a change would make every prefix unknown."""
    assert [f"{h:016x}" for h in fingerprint("m", b"h", bytes(600)).hashes] == GOLDEN


GOLDEN = ["712dabdce14a0b4f", "360100582c47a9de", "a6adeab6aa120136"]


def message_with_image(image: bytes, text: str = "What is this? ") -> bytes:
    url = "data:image/png;base64," + b64encode(image).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text * 200}]
    return json.dumps([{"role": "user", "content": content}]).encode()


def test_an_image_counts_as_a_thousand_tokens_not_as_its_base64() -> None:
    image = bytes(n * 7919 % 256 for n in range(300_000))
    body = message_with_image(image)
    prompt = fingerprint("m", b"", body)
    assert len(body) > 400_000
    assert prompt.total_bytes == len(body) - 400_000 + MEDIA_BYTES
    covered = [prompt.covered(k) for k in range(len(prompt.hashes) + 1)]
    assert covered[-1] <= prompt.total_bytes
    assert sum(prompt.sizes(0)) == covered[-1]


def test_images_are_told_apart_by_their_bytes() -> None:
    one = fingerprint("m", b"", message_with_image(bytes(30_000)))
    other = fingerprint("m", b"", message_with_image(bytes(29_990) + b"different."))
    assert 0 < common(one.hashes, other.hashes) < len(one.hashes)


def test_text_is_not_mistaken_for_media() -> None:
    assert media_spans(b"the quick brown fox, " * 5_000) == ()
    assert media_spans(("\u4f60\u597d" * 20_000).encode()) == ()
    assert media_spans(json.dumps("\u4f60\u597d" * 20_000).encode()) == ()


def test_every_medium_of_a_message_is_found() -> None:
    body = message_with_image(bytes(20_000)) + message_with_image(bytes(10_000))
    spans = media_spans(body)
    assert [end - start for start, end in spans] == [26_668, 13_336]
    assert all(body[start - 8 : start] == b";base64," and body[end : end + 1] == b'"' for start, end in spans)


@given(st.integers(0, 6_000), st.booleans(), st.integers(0, 40))
def test_sizes_add_up_to_what_is_covered(size: int, headed: bool, depth: int) -> None:
    prompt = fingerprint("m", b"h" * 700 if headed else b"", bytes(size))
    depth = min(depth, len(prompt.hashes))
    assert sum(prompt.sizes(depth)) == prompt.covered(len(prompt.hashes)) - prompt.covered(depth)
    assert len(prompt.sizes(depth)) == len(prompt.hashes) - depth
