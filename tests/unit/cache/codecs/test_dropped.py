"""Dropping tokens behind the codecs' face, and who refuses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xxhash

from cache.codecs import droppers, registry
from cache.codecs.codec import UnknownCodec
from cache.codecs.dropped import Dropped
from cache.frame import Header, encode_head
from cache.keys import Namespace
from cache.landing import FrameLanding
from cache.tiers.tier import Fault
from tests.contract.codecs.chunks import LAYOUTS, bits_in, chunk, empty
from tests.contract.tiers import frames
from tests.unit.cache import stores

LAYOUT, BLOCKS = LAYOUTS["cpu-vec"], 4


def _coded(codec: Dropped, **changes: object) -> np.ndarray:
    view = replace(chunk(LAYOUT, "normal", BLOCKS), **changes)
    out = np.empty(codec.bound(LAYOUT, BLOCKS), np.uint8)
    return out[: codec.encode(view, out)]


@pytest.mark.parametrize("rule", droppers.RULES)
@pytest.mark.parametrize(("keep", "blocks"), [(0.01, 1), (0.25, 1), (0.3, 2), (0.5, 2), (1.0, 4)])
def test_shares_are_rounded_up_to_whole_pages(rule: str, keep: float, blocks: int) -> None:
    codec = Dropped(rule, keep, "raw")
    payload = _coded(codec)
    marks = codec.present(payload, LAYOUT, BLOCKS)
    assert (marks.sum(axis=-1) == blocks * LAYOUT.block_tokens).all()
    assert payload.nbytes == blocks * LAYOUT.block_bytes + marks.size // 8


@pytest.mark.parametrize("inner", ["raw", "lossless", "fp8", "int8", "int4", "int2"])
def test_kept_tokens_are_what_the_inner_codec_makes_of_them(inner: str) -> None:
    """With all tokens kept nothing but the inner codec is left."""
    codec, plain = Dropped("knorm", 1.0, inner), registry.make(inner)
    payload = _coded(codec)
    out = np.empty(plain.bound(LAYOUT, BLOCKS), np.uint8)
    alone = out[: plain.encode(chunk(LAYOUT, "normal", BLOCKS), out)]
    assert np.array_equal(payload[-alone.nbytes :], alone)
    one, two = empty(LAYOUT, BLOCKS), empty(LAYOUT, BLOCKS)
    codec.decode(payload, one)
    plain.decode(alone, two)
    for layer in range(LAYOUT.layers):
        assert np.array_equal(bits_in(one, layer), bits_in(two, layer))


def test_queries_of_the_view_are_looked_at() -> None:
    view = chunk(LAYOUT, "normal", BLOCKS)
    keys = (view.keys(0).astype(np.uint32) << 16).view(np.float32)
    asked = 20 * keys[1, :, 7][:, None].repeat(4, axis=1)
    codec = Dropped("snapkv", 0.25, "raw")
    marks = codec.present(_coded(codec, queries=[asked] * LAYOUT.layers), LAYOUT, BLOCKS)
    assert marks[0, :, LAYOUT.block_tokens + 7].all()
    assert not np.array_equal(marks, codec.present(_coded(codec), LAYOUT, BLOCKS))


@pytest.mark.parametrize(
    "config",
    [
        {"rule": "random"},
        {"keep": 0.0},
        {"keep": 1.5},
        {"keep": float("nan")},
        {"keep": "half"},
        {"inner": "dropped"},
        {"inner": "weir"},
        {"inner": "zip"},
        {"inner": "int8", "config": {"k_bits": 99}},
        {"inner": 7},
        {"rule": []},
    ],
)
def test_configurations_of_strangers_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(UnknownCodec):
        registry.make("dropped", config)


def test_the_store_takes_no_codec_that_leaves_tokens_out() -> None:
    with pytest.raises(ValueError, match="dropped leaves tokens out"):
        stores.Bench(tiers=[stores.plan(stores.shared_tier(), codec="dropped")])
    bench = stores.Bench()
    lossy = Namespace("m", "w", "r", "bfloat16", {}, stores.LAYOUT.fingerprint(), kind="small")
    with pytest.raises(ValueError, match="take a codec that keeps every token"):
        bench.store.open_namespace(lossy, registry.make("dropped"))
    bench.store.close()


@pytest.mark.parametrize(("name", "fault"), [("dropped", Fault.CODEC), ("int8", None)])
def test_frames_with_holes_are_refused_where_they_land(name: str, fault: Fault | None) -> None:
    """Also by lookups that take lossy KV, and whoever wrote them."""
    (key,) = frames.keys(1)
    codec = registry.make(name)
    out = np.empty(codec.bound(frames.LAYOUT, 1), np.uint8)
    payload = out[: codec.encode(chunk(frames.LAYOUT, "normal", 1), out)]
    head = encode_head(
        Header(
            key=key,
            layout=frames.LAYOUT.fingerprint(),
            blocks=1,
            position=0,
            codec=name,
            config=codec.config(),
            payload_bytes=payload.nbytes,
            digest=xxhash.xxh3_128_digest(payload.data),
            written=0,
            expires=0,
        )
    )
    reader = frames.Reader(4)
    ref = reader.arena.allocate(frames.CHUNK_BYTES)
    assert ref is not None
    landing = FrameLanding(
        reader.arena, frames.LAYOUT, 1, [key], [ref], lambda key: False, wall=0.0, make=registry.make
    )
    room = landing.place(0, head, len(head) + payload.nbytes)
    assert isinstance(room, np.ndarray)
    room[:] = payload
    assert landing.finish([None]) == [fault]
