"""Tables of a calibrated codec for one model, and the file they travel in.

The file is canonical CBOR through zlib; its blake3 digest names it, in the configuration of every payload
that was made with it. Matrices are int8 with a scale per row: what their rounding costs is part of every
measured quality.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import blake3
import cbor2
import numpy as np
import numpy.typing as npt

from cache.layout import KVLayout

F32 = npt.NDArray[np.float32]
MAGIC = "sluice.codec-tables.1"
MAX_BYTES = 1 << 30
"""Unpacked."""


class BadTables(ValueError):
    """A file that holds no tables, or not those that its name promises."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerTables:
    """How one layer's rows become coefficients and back. N = 2 * heads * dim channels, R coefficients."""

    mean: F32
    """[N]: subtracted from every row."""
    first: F32
    """[N]: subtracted instead from the row of position 0, whose KV hardly depends on the text."""
    forward: F32
    """[R, N], or [N] when every channel is its own coefficient."""
    inverse: F32
    """[R, N], or [N]: a row of coefficients times this is the row of channels."""


@dataclass(frozen=True, slots=True, eq=False)
class LevelTables:
    """How coefficients are quantised and coded at one quality."""

    steps: F32
    """[layers, 2]: step for coefficients of keys and of values; the same where they share a transform."""
    rounding: float
    """Added before cutting to an integer: 0.5 is nearest, less widens the zero bin."""
    centres: tuple[float, float]
    """What is added to magnitude 1, and to greater ones, when they are decoded."""
    active: tuple[int, ...]
    """Coefficients of each layer that are coded; the rest are zero."""
    table_of_row: tuple[npt.NDArray[np.uint8], ...]
    """Per layer: the frequency table of each active coefficient."""
    delta: tuple[npt.NDArray[np.bool_], ...]
    """Per layer: coefficients that are coded as differences from the first token of their group."""
    frequencies: npt.NDArray[np.uint16]
    """[tables, 256], as `cache.codecs.histogram` makes them."""
    quality: Mapping[str, Any] = field(default_factory=dict)
    """What was measured with these tables, on contexts that they were not fitted on."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Everything that a calibrated codec knows about a model."""

    kind: str
    """Name of the codec."""
    weights: str
    """Fingerprint of the model's weights."""
    heads: int
    dim: int
    inverse_frequencies: npt.NDArray[np.float64]
    """Angle per position of each rotated pair of key channels; empty if RoPE is left alone."""
    group: int
    """Tokens that share an anchor, where differences are coded."""
    layers: tuple[LayerTables, ...]
    levels: Mapping[str, LevelTables]

    def check(self, layout: KVLayout) -> None:
        """Raise ValueError for a layout of another shape."""
        mine = (len(self.layers), self.heads, self.dim)
        other = (layout.layers, layout.kv_heads, layout.head_dim)
        if mine != other:
            raise ValueError(
                f"these {self.kind} tables are for {mine[0]} layers of {mine[1]} heads of {mine[2]}, not for "
                f"{other[0]} of {other[1]} of {other[2]}; train tables for this model"
            )

    def to_bytes(self) -> bytes:
        """The file."""
        record = {
            "magic": MAGIC,
            "kind": self.kind,
            "weights": self.weights,
            "heads": self.heads,
            "dim": self.dim,
            "group": self.group,
            "inverse_frequencies": _pack(self.inverse_frequencies),
            "layers": [
                [_pack(x.mean.astype("<f2")), _pack(x.first.astype("<f2"))]
                + [part for matrix in (x.forward, x.inverse) for part in _narrow(matrix)]
                for x in self.layers
            ],
            "levels": {
                name: {
                    "steps": _pack(level.steps),
                    "rounding": level.rounding,
                    "centres": list(level.centres),
                    "active": list(level.active),
                    "table_of_row": [_pack(row) for row in level.table_of_row],
                    "delta": [_pack(row.astype(np.uint8)) for row in level.delta],
                    "frequencies": _pack(level.frequencies),
                    "quality": dict(level.quality),
                }
                for name, level in self.levels.items()
            },
        }
        return zlib.compress(cbor2.dumps(record, canonical=True), 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> Tables:
        """Inverse of `to_bytes`; raises BadTables."""
        try:
            record = _record(data)
            levels = {str(name): _level(level) for name, level in record["levels"].items()}
            made = cls(
                kind=str(record["kind"]),
                weights=str(record["weights"]),
                heads=int(record["heads"]),
                dim=int(record["dim"]),
                inverse_frequencies=_unpack(record["inverse_frequencies"]),
                group=int(record["group"]),
                layers=tuple(
                    LayerTables(
                        mean=_unpack(mean).astype(np.float32),
                        first=_unpack(first).astype(np.float32),
                        forward=_widen(forward, forward_scale),
                        inverse=_widen(inverse, inverse_scale),
                    )
                    for mean, first, forward, forward_scale, inverse, inverse_scale in record["layers"]
                ),
                levels=levels,
            )
            _verify(made)
        except BadTables:
            raise
        except (zlib.error, cbor2.CBORDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise BadTables(f"these bytes are no codec tables: {error!r}") from error
        return made


def fingerprint(data: bytes) -> bytes:
    """16 bytes that name a tables file."""
    return blake3.blake3(data).digest(length=16)


def rounded(layer: LayerTables) -> LayerTables:
    """The layer as it will be read back from a file: what coefficients have to be counted with."""
    forward, inverse = (_widen(*_narrow(matrix)) for matrix in (layer.forward, layer.inverse))
    return LayerTables(
        layer.mean.astype(np.float16).astype(np.float32),
        layer.first.astype(np.float16).astype(np.float32),
        forward,
        inverse,
    )


def _record(data: bytes) -> Any:
    inflate = zlib.decompressobj()
    record = cbor2.loads(inflate.decompress(data, MAX_BYTES))
    if inflate.unconsumed_tail or not inflate.eof:
        raise BadTables(f"cut, or of more than {MAX_BYTES} bytes")
    if record["magic"] != MAGIC:
        raise BadTables(f"tables of an unknown kind: {record['magic']!r}")
    return record


def _level(record: Mapping[str, Any]) -> LevelTables:
    one, more = record["centres"]
    return LevelTables(
        steps=_unpack(record["steps"]).astype(np.float32),
        rounding=float(record["rounding"]),
        centres=(float(one), float(more)),
        active=tuple(int(n) for n in record["active"]),
        table_of_row=tuple(_unpack(row).astype(np.uint8) for row in record["table_of_row"]),
        delta=tuple(_unpack(row).astype(bool) for row in record["delta"]),
        frequencies=_unpack(record["frequencies"]).astype(np.uint16),
        quality=record["quality"],
    )


def _verify(tables: Tables) -> None:
    """Kernels trust these numbers, so every one that is an index or a size is checked here."""
    layers, channels = len(tables.layers), 2 * tables.heads * tables.dim
    if not layers or tables.group < 1 or 2 * tables.inverse_frequencies.size > tables.dim:
        raise BadTables("tables without layers, or with groups or rotations that cannot be")
    coefficients = [1 if x.forward.ndim == 1 else len(x.forward) for x in tables.layers]
    for layer, count in zip(tables.layers, coefficients, strict=True):
        shape = (channels,) if layer.forward.ndim == 1 else (count, channels)
        if layer.mean.shape != (channels,) or layer.first.shape != (channels,):
            raise BadTables("means of the wrong size")
        if layer.forward.shape != shape or layer.inverse.shape != shape:
            raise BadTables("transforms of the wrong size")
    for level in tables.levels.values():
        freq = level.frequencies.astype(np.int64)
        if freq.ndim != 2 or not 1 <= len(freq) <= 256 or freq.shape[1] != 256:
            raise BadTables("frequency tables of the wrong size")
        if (freq.sum(axis=1) != 4096).any() or (freq[:, 0] < 1).any():
            raise BadTables("frequencies that do not add up")
        if level.steps.shape != (layers, 2) or not (level.steps > 0).all():
            raise BadTables("steps that are no steps")
        if not len(level.active) == len(level.table_of_row) == len(level.delta) == layers:
            raise BadTables("a level with another number of layers")
        for i, active in enumerate(level.active):
            most = channels if tables.layers[i].forward.ndim == 1 else coefficients[i]
            rows, delta = level.table_of_row[i], level.delta[i]
            if not 1 <= active <= most or rows.shape != (active,) or delta.shape != (active,):
                raise BadTables("a level with another number of coefficients")
            if tables.layers[i].forward.ndim == 1 and active != channels:
                raise BadTables("a level that leaves channels out")
            if int(rows.max()) >= len(freq):
                raise BadTables("a coefficient without a frequency table")


def _pack(array: npt.NDArray[Any]) -> list[Any]:
    return [array.dtype.newbyteorder("<").str, list(array.shape), np.ascontiguousarray(array).tobytes()]


def _unpack(packed: list[Any]) -> npt.NDArray[Any]:
    dtype, shape, data = packed
    if np.dtype(dtype).kind not in "iufb":
        raise BadTables(f"an array of {dtype!r}")
    return np.frombuffer(data, np.dtype(dtype)).reshape([int(n) for n in shape])


def _narrow(matrix: F32) -> tuple[list[Any], list[Any]]:
    """A matrix as int8 with a scale per row; a vector as it is."""
    if matrix.ndim == 1:
        return _pack(matrix), _pack(np.ones(1, np.float32))
    scale = np.maximum(np.abs(matrix).max(axis=1), np.float32(1e-30)) / np.float32(127)
    return _pack(np.round(matrix / scale[:, None]).astype(np.int8)), _pack(scale.astype(np.float32))


def _widen(matrix: list[Any], scale: list[Any]) -> F32:
    numbers, scales = _unpack(matrix), _unpack(scale)
    if numbers.ndim == 1:
        return numbers.astype(np.float32)
    widened: F32 = (numbers.astype(np.float32) * scales.astype(np.float32)[:, None]).astype(np.float32)
    return widened
