"""Tables: fitted, written, found, refused."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest

from cache.calibration import library
from cache.calibration.clusters import cluster
from cache.calibration.fit import fit_weir
from cache.calibration.statistics import LayerStatistics
from cache.calibration.tables import BadTables, Tables, fingerprint
from cache.codecs.calibrated import Calibrated, anchors_of
from cache.codecs.codec import MissingTables
from cache.codecs.levels import QUALITIES, levels_for
from cache.layout import KVLayout, view_of
from tests.contract.codecs import made_up
from tests.contract.codecs.chunks import chunk, empty, floats_of

LAYOUT = KVLayout(2, 2, 16, "bfloat16", 16, "plain")


def _tables(kind: str = "weir") -> Tables:
    return made_up.tables(kind, LAYOUT.layers, LAYOUT.kv_heads, LAYOUT.head_dim)


def _variant(**options: object) -> Tables:
    seen = made_up.statistics(LAYOUT.layers, LAYOUT.kv_heads, LAYOUT.head_dim)
    shape = {"heads": LAYOUT.kv_heads, "dim": LAYOUT.head_dim, "inverse_frequencies": np.zeros(0)}
    return fit_weir(seen, weights="made up", **shape, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["weir", "cachegen"])
def test_file_and_back(kind: str, tmp_path: Path) -> None:
    tables = _tables(kind)
    path = library.write(tables, tmp_path)
    digest = bytes.fromhex(path.stem.rpartition("-")[2])
    again = library.Library((tmp_path,)).tables(kind, digest)
    assert again.to_bytes() == tables.to_bytes()
    for one, two in zip(tables.layers, again.layers, strict=True):
        assert np.array_equal(one.forward, two.forward)
        assert np.array_equal(one.inverse, two.inverse)


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "channel"},
        {"scope": "head"},
        {"allocation": "equal"},
        {"coding": "fixed"},
        {"sensitivity": "none"},
        {"tables": 1},
    ],
    ids=str,
)
def test_variants_that_measure_what_a_part_earns_are_codecs(options: dict[str, object]) -> None:
    """At a fine step each gives back what went in."""
    tables = _variant(steps={"fine": 0.05}, **options)
    view, back = chunk(LAYOUT, "normal", 4), empty(LAYOUT, 4)
    codec = Calibrated(tables, fingerprint(tables.to_bytes()), "fine")
    out = np.empty(codec.bound(LAYOUT, 4), np.uint8)
    codec.decode(out[: codec.encode(view, out)], back)
    for layer in range(LAYOUT.layers):
        error = floats_of(view, layer) - floats_of(back, layer)
        assert np.sqrt((error**2).mean()) < 0.3


def test_codes_of_fixed_width_share_eight_tables_and_cost_more() -> None:
    fitted, fixed = (_variant(coding=coding) for coding in ("fitted", "fixed"))
    assert fixed.levels["high"].frequencies.shape == (8, 256)
    assert (fixed.levels["high"].frequencies.sum(axis=1) == 4096).all()
    view, sizes = chunk(LAYOUT, "normal", 4), []
    for tables in (fitted, fixed):
        codec = Calibrated(tables, fingerprint(tables.to_bytes()), "high")
        sizes.append(codec.encode(view, np.empty(codec.bound(LAYOUT, 4), np.uint8)))
    assert sizes[1] > sizes[0]


def test_found_by_model_and_refused_for_another(tmp_path: Path) -> None:
    library.write(_tables(), tmp_path)
    shelf = library.Library((tmp_path,))
    assert shelf.for_model("weir", "made up") is not None
    assert shelf.for_model("weir", "another model") is None
    assert shelf.for_model("cachegen", "made up") is None


def test_damaged_file(tmp_path: Path) -> None:
    path = library.write(_tables(), tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    shelf = library.Library((tmp_path,))
    with pytest.raises(MissingTables, match="damaged"):
        shelf.tables("weir", bytes.fromhex(path.stem.rpartition("-")[2]))
    assert shelf.for_model("weir", "made up") is None


def test_tables_of_another_shape() -> None:
    codec = made_up.codec("weir", LAYOUT)
    with pytest.raises(ValueError, match="train tables"):
        codec.bound(replace(LAYOUT, kv_heads=3), 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(magic="other"),
        lambda record: record.pop("group"),
        lambda record: record["levels"]["small"].update(active=[9999, 1]),
        lambda record: record["levels"]["small"]["table_of_row"][0].__setitem__(2, b"\xff" * 64),
        lambda record: record["levels"]["small"]["frequencies"].__setitem__(2, b""),
        lambda record: record["layers"][0][0].__setitem__(0, "O"),
        lambda record: record.update(heads=7),
    ],
)
def test_lies_in_a_file_are_noticed(change: object) -> None:
    """A file's name is a checksum, not a signature: kernels must be safe from what it says."""
    record = cbor2.loads(zlib.decompress(_tables().to_bytes()))
    change(record)  # type: ignore[operator]
    with pytest.raises(BadTables):
        Tables.from_bytes(zlib.compress(cbor2.dumps(record)))


@pytest.mark.parametrize("data", [b"", b"nonsense", zlib.compress(b"\x00"), zlib.compress(b"\xa0")[:-3]])
def test_no_tables_at_all(data: bytes) -> None:
    with pytest.raises(BadTables):
        Tables.from_bytes(data)


def test_finer_levels_are_larger_and_closer() -> None:
    sizes, errors = [], []
    for level in ("high", "balanced", "small"):
        codec = made_up.codec("weir", LAYOUT, level)
        view, back = chunk(LAYOUT, "normal", 4, position=64), empty(LAYOUT, 4)
        out = np.empty(codec.bound(LAYOUT, 4), np.uint8)
        taken = codec.encode(view, out)
        codec.decode(out[:taken], back)
        sizes.append(taken)
        errors.append(
            sum(((floats_of(view, i) - floats_of(back, i)) ** 2).mean() for i in range(LAYOUT.layers))
        )
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_decoding_needs_no_position() -> None:
    """The payload notes it, so a reader that does not know where a chunk stood decodes it all the same."""
    codec = made_up.codec("weir", LAYOUT)
    view, back = chunk(LAYOUT, "normal", 2, position=96), empty(LAYOUT, 2)
    placed = view_of(LAYOUT, np.zeros(2 * LAYOUT.block_bytes, np.uint8), 2, position=96)
    out = np.empty(codec.bound(LAYOUT, 2), np.uint8)
    payload = out[: codec.encode(view, out)]
    codec.decode(payload, back)
    codec.decode(payload, placed)
    assert all(np.array_equal(a, b) for a, b in zip(back.pages, placed.pages, strict=True))


def test_sensitive_directions_get_the_bits() -> None:
    """Of two channels of equal variance the one that the output depends on comes back closer."""
    rng = np.random.default_rng(3)
    layer = LayerStatistics(4)
    for _ in range(4):
        gradients = rng.standard_normal((2, 300, 4)).astype(np.float32) * [3, 0.1, 1, 1]
        layer.add(rng.standard_normal((300, 4)).astype(np.float32), gradients.astype(np.float32))
    tables = fit_weir(
        [layer], weights="", heads=1, dim=2, inverse_frequencies=np.zeros(0), regularisation=0.01
    )
    matrix = tables.layers[0]
    rows = rng.standard_normal((500, 4)).astype(np.float32)
    step = float(tables.levels["small"].steps[0, 0])
    back = np.round(rows @ matrix.forward.T / step) * step @ matrix.inverse
    error = ((rows - back) ** 2).mean(axis=0)
    assert error[0] < 0.1 * error[1]


def test_histograms_of_a_kind_share_a_table() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros((12, 256), np.int64)
    for row in range(12):
        width = 2 if row % 2 else 20
        counts[row] = np.bincount(
            np.clip(128 + rng.laplace(0, width, 5000), 1, 255).astype(int), minlength=256
        )
    tables, chosen = cluster(counts, 2)
    assert len(set(chosen[0::2])) == len(set(chosen[1::2])) == 1
    assert chosen[0] != chosen[1]
    assert (tables.astype(int).sum(axis=1) == 4096).all()


def test_anchors() -> None:
    others, anchors = anchors_of(7, 3)
    assert others.tolist() == [1, 2, 4, 5]
    assert anchors.tolist() == [0, 0, 3, 3]


def test_levels_without_tables_are_not_measured(tmp_path: Path) -> None:
    found = levels_for("unknown model", library.Library((tmp_path,)))
    assert tuple(found) == QUALITIES
    assert found["exact"].build().lossless
    for quality in QUALITIES[1:]:
        assert not found[quality].measured
        assert not found[quality].build().lossless


def test_levels_with_tables(tmp_path: Path) -> None:
    tables = _tables()
    measured = replace(
        tables, levels={name: replace(level, quality={"kl": 0.5}) for name, level in tables.levels.items()}
    )
    library.write(measured, tmp_path)
    found = levels_for("made up", library.Library((tmp_path,)))
    assert [found[quality].codec for quality in QUALITIES] == ["lossless", "weir", "weir", "weir"]
    assert found["small"].measured == {"kl": 0.5}
