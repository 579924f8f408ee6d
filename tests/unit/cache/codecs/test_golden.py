"""Payloads that earlier versions wrote are decoded for ever. A new codec gets its files by running this:

python -m tests.unit.cache.codecs.test_golden
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cache.calibration.library import Library, write
from cache.codecs import registry
from cache.layout import KVLayout
from tests.contract.codecs import made_up
from tests.contract.codecs.chunks import chunk, empty, floats_of

FOLDER = Path(__file__).parents[3] / "golden" / "codecs"
LAYOUT = KVLayout(2, 2, 16, "bfloat16", 16, "cpu-vec")
BLOCKS, POSITION = 2, 32
CONFIGS: dict[str, dict[str, object]] = {
    "raw": {},
    "lossless": {},
    "fp8": {},
    "int8": {"k_bits": 8, "v_bits": 8},
    "int4": {"k_bits": 4, "v_bits": 3},
    "int2": {"k_bits": 2, "v_bits": 2},
    "cachegen": {"level": "balanced"},
    "weir": {"level": "balanced"},
    "dropped": {"rule": "keydiff", "keep": 0.5, "inner": "int8", "config": {"k_bits": 8, "v_bits": 8}},
}


def _codec(name: str) -> registry.Codec:
    config = dict(CONFIGS[name])
    library = Library((FOLDER,))
    if name in registry.CALIBRATED:
        (path,) = FOLDER.glob(f"{name}-*.tables")
        config["tables"] = bytes.fromhex(path.stem.rpartition("-")[2])
    return registry.make(name, config, library=library)


@pytest.mark.parametrize("name", registry.names())
def test_old_payloads_are_read(name: str) -> None:
    payload = np.frombuffer((FOLDER / f"{name}.payload").read_bytes(), np.uint8)
    expected = np.frombuffer((FOLDER / f"{name}.pages").read_bytes(), np.uint8)
    back = empty(LAYOUT, BLOCKS)
    _codec(name).decode(payload, back)
    wanted = empty(LAYOUT, BLOCKS)
    for layer in range(LAYOUT.layers):
        wanted.pages[layer][:] = expected.view(np.uint16).reshape(LAYOUT.layers, BLOCKS, -1)[layer]
        if name in registry.CALIBRATED:
            # Products of matrices differ in their last bits between machines: at most one step of bfloat16.
            one, two = floats_of(back, layer), floats_of(wanted, layer)
            assert (np.abs(one - two) <= np.maximum(np.abs(two), 0.01) * 2.0**-7).all()
        else:
            assert np.array_equal(back.pages[layer], wanted.pages[layer])


def _freeze() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in registry.names():
        if (FOLDER / f"{name}.payload").exists():
            continue
        if name in registry.CALIBRATED:
            write(made_up.tables(name, LAYOUT.layers, LAYOUT.kv_heads, LAYOUT.head_dim), FOLDER)
        codec = _codec(name)
        view = chunk(LAYOUT, "normal", BLOCKS, seed=11, position=POSITION)
        out = np.empty(codec.bound(LAYOUT, BLOCKS), np.uint8)
        taken = codec.encode(view, out)
        (FOLDER / f"{name}.payload").write_bytes(out[:taken].tobytes())
        back = empty(LAYOUT, BLOCKS)
        codec.decode(out[:taken], back)
        (FOLDER / f"{name}.pages").write_bytes(b"".join(page.tobytes() for page in back.pages))


if __name__ == "__main__":
    _freeze()
