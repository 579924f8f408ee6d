from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.fingerprint import BOUNDS, fingerprint


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
