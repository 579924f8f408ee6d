"""Every registered codec against the same contract: layouts, contents, damage."""

from __future__ import annotations

import numpy as np
import pytest

from cache.codecs import registry
from cache.codecs.codec import Codec, CorruptPayload
from cache.layout import KVView, view_of

from tests.contract.codecs.chunks import CONTENTS, LAYOUTS, chunk, empty, floats_of

BLOCKS = 3


@pytest.fixture(params=registry.names())
def codec(request: pytest.FixtureRequest) -> Codec:
    return registry.make(request.param)


@pytest.fixture(params=LAYOUTS)
def layout_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def encoded(codec: Codec, view: KVView) -> np.ndarray:
    out = np.full(codec.bound(view.layout, view.blocks) + 16, 0x5C, np.uint8)
    taken = codec.encode(view, out[:-16])
    assert 0 < taken <= out.nbytes - 16
    assert (out[-16:] == 0x5C).all(), "encode wrote behind its buffer"
    return out[:taken].copy()


def same_bits(one: KVView, two: KVView) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.pages, two.pages, strict=True))


@pytest.mark.parametrize("content", CONTENTS)
def test_round_trip(codec: Codec, layout_name: str, content: str) -> None:
    """Lossless codecs give the same bits back; lossy ones the same numbers up to a tenth of their spread."""
    layout = LAYOUTS[layout_name]
    view, back = chunk(layout, content, BLOCKS), empty(layout, BLOCKS)
    before = [page.copy() for page in view.pages]
    codec.decode(encoded(codec, view), back)
    assert all(np.array_equal(a, b) for a, b in zip(before, view.pages, strict=True)), (
        "encode changed its input"
    )
    if codec.lossless or content == "holes":
        whole = [layer for layer in range(layout.layers) if not np.isfinite(floats_of(view, layer)).all()]
        for layer in range(layout.layers) if codec.lossless else whole:
            assert np.array_equal(view.pages[layer], back.pages[layer])
        return
    for layer in range(layout.layers):
        assert np.isfinite(floats_of(back, layer)).all()


def test_rows_may_lie_apart(codec: Codec, layout_name: str) -> None:
    """Pages of an engine belong to one layer each, with other blocks between them."""
    layout = LAYOUTS[layout_name]
    view = chunk(layout, "normal", BLOCKS)
    pools = [np.zeros((2 * BLOCKS, layout.page_elements), layout.bits_dtype) for _ in range(layout.layers)]
    for pool, page in zip(pools, view.pages, strict=True):
        pool[::2] = page
    apart = KVView(layout, [pool[::2] for pool in pools])
    payload = encoded(codec, apart)
    assert np.array_equal(payload, encoded(codec, view))
    target = [np.full_like(pool, 7) for pool in pools]
    codec.decode(payload, KVView(layout, [pool[::2] for pool in target]))
    together = empty(layout, BLOCKS)
    codec.decode(payload, together)
    for pool, page in zip(target, together.pages, strict=True):
        assert np.array_equal(pool[::2], page)
        assert (pool[1::2] == 7).all(), "decode wrote outside the view"


def test_one_layer_alone(codec: Codec, layout_name: str) -> None:
    layout = LAYOUTS[layout_name]
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    whole = empty(layout, BLOCKS)
    codec.decode(payload, whole)
    for layer in range(layout.layers):
        single = empty(layout, BLOCKS)
        codec.decode_layer(payload, layer, single)
        for other in range(layout.layers):
            expected = whole if other == layer else empty(layout, BLOCKS)
            assert np.array_equal(single.pages[other], expected.pages[other])


def test_deterministic_and_rebuilt_from_its_config(codec: Codec) -> None:
    view = chunk(LAYOUTS["cpu-vec"], "normal", BLOCKS)
    payload = encoded(codec, view)
    twin = registry.make(codec.name, codec.config())
    assert np.array_equal(payload, encoded(twin, view))
    assert twin.config() == codec.config()
    assert twin.lossless == codec.lossless


def test_payload_at_any_address(codec: Codec, layout_name: str) -> None:
    """Frames put payloads wherever their header ends, in memory that may be read-only."""
    layout = LAYOUTS[layout_name]
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    shifted = np.empty(payload.nbytes + 1, np.uint8)
    shifted[1:] = payload
    shifted.setflags(write=False)
    one, two = empty(layout, BLOCKS), empty(layout, BLOCKS)
    codec.decode(payload, one)
    codec.decode(shifted[1:], two)
    assert same_bits(one, two)


def test_small_buffer_is_refused(codec: Codec) -> None:
    view = chunk(LAYOUTS["plain"], "normal", BLOCKS)
    with pytest.raises(ValueError, match="buffer"):
        codec.encode(view, np.empty(codec.bound(view.layout, BLOCKS) - 1, np.uint8))


@pytest.mark.parametrize("kept", [0, 1, 3, 7, 0.3, 0.9, -1])
def test_truncation_is_noticed(codec: Codec, layout_name: str, kept: float) -> None:
    layout = LAYOUTS[layout_name]
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    size = int(kept * payload.nbytes) if isinstance(kept, float) else int(kept)
    with pytest.raises(CorruptPayload):
        codec.decode(payload[:size], empty(layout, BLOCKS))


def test_more_than_was_written_is_noticed(codec: Codec, layout_name: str) -> None:
    layout = LAYOUTS[layout_name]
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    with pytest.raises(CorruptPayload):
        codec.decode(np.concatenate([payload, payload[:1]]), empty(layout, BLOCKS))


@pytest.mark.parametrize("seed", range(3))
def test_damage_raises_or_decodes_to_something(codec: Codec, layout_name: str, seed: int) -> None:
    """Frames carry checksums; a codec that is handed damage all the same must stay inside its memory."""
    layout = LAYOUTS[layout_name]
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    rng = np.random.default_rng(seed)
    guard = 4096
    memory = np.full(2 * guard + BLOCKS * layout.block_bytes, 0xA5, np.uint8)
    view = view_of(layout, memory[guard:-guard], BLOCKS)
    for _ in range(20):
        damaged = payload.copy()
        places = rng.integers(0, payload.nbytes, rng.integers(1, 5))
        damaged[places] = rng.integers(0, 256, places.size)
        try:
            codec.decode(damaged, view)
        except CorruptPayload:
            continue
        finally:
            assert (memory[:guard] == 0xA5).all() and (memory[-guard:] == 0xA5).all()


def test_noise_raises_or_decodes_to_something(codec: Codec, layout_name: str) -> None:
    layout = LAYOUTS[layout_name]
    rng = np.random.default_rng(5)
    size = encoded(codec, chunk(layout, "normal", BLOCKS)).nbytes
    view = empty(layout, BLOCKS)
    for length in (*rng.integers(0, size + 50, 20), size):
        try:
            codec.decode(rng.integers(0, 256, int(length), np.uint8), view)
        except CorruptPayload:
            continue
