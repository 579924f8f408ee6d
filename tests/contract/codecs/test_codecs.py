"""Every registered codec against the same contract: layouts, contents, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cache.calibration import library
from cache.codecs import registry
from cache.codecs.codec import Codec, CorruptPayload, refuse_holes
from cache.codecs.dropped import Dropped
from cache.layout import KVLayout, KVView, view_of
from tests.contract.codecs import made_up
from tests.contract.codecs.chunks import CONTENTS, LAYOUTS, bits_in, chunk, empty, floats_of

BLOCKS = 3


@pytest.fixture(params=registry.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> KVLayout:
    return LAYOUTS[request.param]


def codec_for(name: str, layout: KVLayout) -> Codec:
    return made_up.codec(name, layout) if name in registry.CALIBRATED else registry.make(name)


@pytest.mark.parametrize("name", registry.names())
def test_a_codec_for_paged_engines_gives_back_every_token(name: str) -> None:
    """What the flag says is what decoding does: without holes no element stays untouched or turns to zero."""
    layout = LAYOUTS["cpu-vec"]
    codec, view, back = codec_for(name, layout), chunk(layout, "normal", BLOCKS), empty(layout, BLOCKS)
    codec.decode(encoded(codec, view), back)
    tokens = floats_of(back, 0).any(axis=(0, 4))
    assert tokens.all() == codec.keeps_every_token
    if codec.keeps_every_token:
        refuse_holes(codec)
    else:
        with pytest.raises(ValueError, match="leaves tokens out"):
            refuse_holes(codec)


@pytest.fixture
def codec(name: str, layout: KVLayout) -> Codec:
    return codec_for(name, layout)


def encoded(codec: Codec, view: KVView) -> NDArray[np.uint8]:
    out = np.full(codec.bound(view.layout, view.blocks) + 16, 0x5C, np.uint8)
    taken = codec.encode(view, out[:-16])
    assert 0 < taken <= out.nbytes - 16
    assert (out[-16:] == 0x5C).all(), "encode wrote behind its buffer"
    return out[:taken].copy()


def present(codec: Codec, payload: NDArray[np.uint8], view: KVView) -> list[NDArray[np.bool_]]:
    """Per layer, which elements of `floats_of` a payload holds."""
    layout = view.layout
    shape = (layout.layers, layout.kv_heads, view.tokens)
    marks = (
        codec.present(payload, layout, view.blocks) if isinstance(codec, Dropped) else np.ones(shape, bool)
    )
    paged = marks.reshape(*shape[:2], view.blocks, layout.block_tokens).transpose(0, 2, 1, 3)
    shape = (2, view.blocks, layout.kv_heads, layout.block_tokens, layout.head_dim)
    return [np.broadcast_to(layer[None, ..., None], shape) for layer in paged]


def same_bits(one: KVView, two: KVView) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.pages, two.pages, strict=True))


@pytest.mark.parametrize("blocks", [1, BLOCKS])
@pytest.mark.parametrize("content", CONTENTS)
def test_round_trip(codec: Codec, layout: KVLayout, content: str, blocks: int) -> None:
    """Lossless codecs give the same bits back, lossy ones finite numbers; a layer with NaN or infinity comes
    back as it was. Tokens that a codec leaves out come back as zeros."""
    view, back = chunk(layout, content, blocks), empty(layout, blocks)
    before = [page.copy() for page in view.pages]
    payload = encoded(codec, view)
    codec.decode(payload, back)
    held = present(codec, payload, view)
    for layer in range(layout.layers):
        assert np.array_equal(before[layer], view.pages[layer]), "encode changed its input"
        numbers, decoded = bits_in(view, layer), bits_in(back, layer)
        assert not decoded[~held[layer]].any()
        if codec.lossless or not np.isfinite(floats_of(view, layer)).all():
            assert np.array_equal(numbers[held[layer]], decoded[held[layer]])
        else:
            assert np.isfinite(floats_of(back, layer)).all()


RELATIVE_ERROR = {"fp8": 0.05, "int8": 0.01, "int4": 0.15, "int2": 0.6, "cachegen": 0.8, "weir": 0.8}
"""Root mean square error of normal numbers that a codec must stay below."""


def test_loss_is_small(codec: Codec, layout: KVLayout) -> None:
    view, back = chunk(layout, "normal", BLOCKS), empty(layout, BLOCKS)
    payload = encoded(codec, view)
    codec.decode(payload, back)
    held = present(codec, payload, view)
    for layer in range(layout.layers):
        error = (floats_of(view, layer) - floats_of(back, layer))[held[layer]]
        assert np.sqrt((error**2).mean()) <= RELATIVE_ERROR.get(codec.name, 0.0)


@pytest.mark.parametrize("name", registry.names()[1:])
def test_zeros_are_cheap(name: str) -> None:
    """A chunk of zeros is the easiest there is: all codecs but raw need at most little more than half."""
    layout = LAYOUTS["cpu-vec"]
    payload = encoded(codec_for(name, layout), chunk(layout, "zero", BLOCKS))
    assert payload.nbytes <= 0.6 * BLOCKS * layout.block_bytes


def test_rows_may_lie_apart(codec: Codec, layout: KVLayout) -> None:
    """Pages of an engine belong to one layer each, with other blocks between them."""
    view = chunk(layout, "normal", BLOCKS)
    pools = [np.zeros((2 * BLOCKS, layout.page_elements), layout.bits_dtype) for _ in range(layout.layers)]
    for pool, page in zip(pools, view.pages, strict=True):
        pool[::2] = page
    payload = encoded(codec, KVView(layout, [pool[::2] for pool in pools]))
    assert np.array_equal(payload, encoded(codec, view))
    target = [np.full_like(pool, 7) for pool in pools]
    codec.decode(payload, KVView(layout, [pool[::2] for pool in target]))
    together = empty(layout, BLOCKS)
    codec.decode(payload, together)
    for pool, page in zip(target, together.pages, strict=True):
        assert np.array_equal(pool[::2], page)
        assert (pool[1::2] == 7).all(), "decode wrote outside the view"


def test_one_layer_alone(codec: Codec, layout: KVLayout) -> None:
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    whole = empty(layout, BLOCKS)
    codec.decode(payload, whole)
    for layer in range(layout.layers):
        single = empty(layout, BLOCKS)
        codec.decode_layer(payload, layer, single)
        for other in range(layout.layers):
            expected = whole if other == layer else empty(layout, BLOCKS)
            assert np.array_equal(single.pages[other], expected.pages[other])


def test_rebuilt_from_its_config(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS["cpu-vec"]
    codec = codec_for(name, layout)
    shelf = library.Library((tmp_path,))
    if name in registry.CALIBRATED:
        library.write(made_up.tables(name, layout.layers, layout.kv_heads, layout.head_dim), tmp_path)
    view = chunk(layout, "normal", BLOCKS)
    twin = registry.make(codec.name, codec.config(), library=shelf)
    assert np.array_equal(encoded(codec, view), encoded(twin, view))
    assert twin.config() == codec.config()
    assert twin.lossless == codec.lossless
    assert twin.keeps_every_token == codec.keeps_every_token


def test_payload_at_any_address(codec: Codec, layout: KVLayout) -> None:
    """Frames put payloads wherever their header ends, in memory that may be read-only."""
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    shifted = np.empty(payload.nbytes + 1, np.uint8)
    shifted[1:] = payload
    shifted.setflags(write=False)
    one, two = empty(layout, BLOCKS), empty(layout, BLOCKS)
    codec.decode(payload, one)
    codec.decode(shifted[1:], two)
    assert same_bits(one, two)


def test_small_buffer_is_refused(codec: Codec, layout: KVLayout) -> None:
    view = chunk(layout, "normal", BLOCKS)
    with pytest.raises(ValueError, match="buffer"):
        codec.encode(view, np.empty(codec.bound(layout, BLOCKS) - 1, np.uint8))


@pytest.mark.parametrize("kept", [0, 1, 3, 7, 0.3, 0.9, -1])
def test_truncation_is_noticed(codec: Codec, layout: KVLayout, kept: float) -> None:
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    size = int(kept * payload.nbytes) if isinstance(kept, float) else int(kept)
    with pytest.raises(CorruptPayload):
        codec.decode(payload[:size], empty(layout, BLOCKS))


def test_more_than_was_written_is_noticed(codec: Codec, layout: KVLayout) -> None:
    payload = encoded(codec, chunk(layout, "normal", BLOCKS))
    with pytest.raises(CorruptPayload):
        codec.decode(np.concatenate([payload, payload[:1]]), empty(layout, BLOCKS))


@pytest.mark.parametrize("seed", range(3))
def test_damage_raises_or_decodes_to_something(codec: Codec, layout: KVLayout, seed: int) -> None:
    """Frames carry checksums; a codec that is handed damage all the same must stay inside its memory."""
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
            assert (memory[:guard] == 0xA5).all()
            assert (memory[-guard:] == 0xA5).all()


def test_noise_raises_or_decodes_to_something(codec: Codec, layout: KVLayout) -> None:
    rng = np.random.default_rng(5)
    size = encoded(codec, chunk(layout, "normal", BLOCKS)).nbytes
    view = empty(layout, BLOCKS)
    for length in (*rng.integers(0, size + 50, 20), size):
        try:
            codec.decode(rng.integers(0, 256, int(length), np.uint8), view)
        except CorruptPayload:
            continue
