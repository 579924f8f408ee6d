"""Codecs with tables of a model: `cachegen` and `weir`. One pipeline, different tables.

    pages -> rows of channels per token, RoPE undone where the tables say so
          -> minus the mean (position 0: minus the usual first row)
          -> coefficients: channels on their own scale (`cachegen`), or a learned transform (`weir`)
          -> integers by a uniform quantiser with a dead zone
          -> differences from an anchor token, for coefficients where that was measured to be shorter
          -> rANS with frequency tables that were fitted offline and are not in the payload

The payload notes the position of its first token, so that decoding needs nothing but the payload.

`cachegen` follows the paper (2310.07240): channels quantised by bins whose width grows with depth, a table
per (layer, channel) profiled once per model, anchors every ten tokens. Tables of alike channels are merged,
and anchors use the bin of their layer instead of 8 bits: in whole numbers a difference is exact, so a finer
anchor would only cost bits.

`weir` is ours: keys without RoPE and values of a layer go through one linear map that weighs every direction
by what an error in it does to the model's output (Fisher information) and then decorrelates. One step for all
coefficients of all layers is then reverse water-filling of that damage: directions that do not matter get no
bits, in whatever layer, head or tensor they lie.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.calibration.library import Library, default_library
from cache.calibration.tables import F32, LayerTables, Tables
from cache.codecs.codec import Bytes, CorruptPayload, MissingTables
from cache.codecs.pages import pages_of
from cache.codecs.sections import SectionCodec
from cache.layout import KVLayout, KVView
from kernels import dispatch

Levels = npt.NDArray[np.int16]


class Calibrated(SectionCodec):
    """A codec with the tables of a model at one of their levels."""

    note_bytes = 4

    def __init__(self, tables: Tables, digest: bytes, level: str) -> None:
        if level not in tables.levels:
            raise ValueError(f"these tables have the levels {', '.join(tables.levels)}, not {level!r}")
        self.name = tables.kind
        self._tables, self._digest, self._level = tables, digest, level
        chosen = self._chosen = tables.levels[level]
        self._starts = dispatch.starts_of(chosen.frequencies)
        self._slots = dispatch.slots_of(chosen.frequencies)
        self._forward = [
            _scaled(x, x.forward, 1 / chosen.steps[i], chosen.active[i]) for i, x in enumerate(tables.layers)
        ]
        self._inverse = [
            _scaled(x, x.inverse, chosen.steps[i], chosen.active[i]) for i, x in enumerate(tables.layers)
        ]
        self._turns = lru_cache(maxsize=8)(self._angles)

    def config(self) -> dict[str, Any]:
        return {"tables": self._digest, "level": self._level}

    def _check(self, layout: KVLayout) -> None:
        self._tables.check(layout)

    def _notes(self, view: KVView) -> bytes:
        return struct.pack("<I", view.position)

    def _encode_layer(self, view: KVView, layer: int, notes: bytes, out: Bytes) -> int | None:
        (position,) = struct.unpack("<I", notes)
        memory, pages = pages_of(view, layer)
        rows = np.empty((view.tokens, self._tables.layers[layer].mean.size), np.float32)
        if dispatch.read_tokens(memory, pages, *self._turns(position, view.tokens), rows):
            return None
        rows -= self._origin(layer, position, view.tokens)
        matrix = self._forward[layer]
        with np.errstate(over="ignore", invalid="ignore"):
            coefficients = rows.T * matrix[:, None] if matrix.ndim == 1 else matrix @ rows.T
        levels = np.empty(coefficients.shape, np.int16)
        if dispatch.to_levels(np.ascontiguousarray(coefficients), self._chosen.rounding, levels):
            return None
        self._subtract_anchors(levels, layer)
        chosen = self._chosen
        taken = dispatch.encode(levels, chosen.frequencies, self._starts, chosen.table_of_row[layer], out)
        return None if taken < 0 else int(taken)

    def _decode_layer(self, body: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        (position,) = struct.unpack("<I", notes)
        chosen = self._chosen
        levels = np.empty((chosen.active[layer], view.tokens), np.int16)
        if dispatch.decode(body, self._slots, chosen.table_of_row[layer], levels):
            raise CorruptPayload(f"the rANS stream of layer {layer} is damaged")
        self._add_anchors(levels, layer)
        coefficients = np.empty(levels.shape, np.float32)
        dispatch.from_levels(levels, *chosen.centres, coefficients)
        matrix = self._inverse[layer]
        rows = (
            np.ascontiguousarray((coefficients * matrix[:, None]).T)
            if matrix.ndim == 1
            else coefficients.T @ matrix
        )
        rows += self._origin(layer, position, view.tokens)
        memory, pages = pages_of(view, layer)
        if dispatch.write_tokens(rows, pages, *self._turns(position, view.tokens), memory):
            raise CorruptPayload(f"layer {layer} decodes to numbers that are not finite")

    def _origin(self, layer: int, position: int, tokens: int) -> F32:
        tables = self._tables.layers[layer]
        if position:
            return tables.mean
        origin = np.repeat(tables.mean[None], tokens, axis=0)
        origin[0] = tables.first
        return origin

    def _angles(self, position: int, tokens: int) -> tuple[F32, F32]:
        """Cosines and sines of each token, [tokens, rotated channels / 2]."""
        places = np.arange(position, position + tokens, dtype=np.float64)
        angles = np.outer(places, self._tables.inverse_frequencies)
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def _subtract_anchors(self, levels: Levels, layer: int) -> None:
        rows = np.flatnonzero(self._chosen.delta[layer])
        if rows.size:
            others, anchors = anchors_of(levels.shape[1], self._tables.group)
            part = levels[rows]
            part[:, others] -= part[:, anchors]
            levels[rows] = part

    def _add_anchors(self, levels: Levels, layer: int) -> None:
        rows = np.flatnonzero(self._chosen.delta[layer])
        if rows.size:
            others, anchors = anchors_of(levels.shape[1], self._tables.group)
            part = levels[rows]
            part[:, others] += part[:, anchors]
            levels[rows] = part


def anchors_of(tokens: int, group: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The tokens that are no anchors, and the anchor of each."""
    places = np.arange(tokens)
    others = places[places % group != 0]
    return others, others - others % group


def _scaled(layer: LayerTables, matrix: F32, by: F32, active: int) -> F32:
    if matrix.ndim == 1:
        return np.ascontiguousarray(matrix * np.repeat(by, matrix.size // 2), np.float32)
    return np.ascontiguousarray(matrix[:active] * by[0], np.float32)


def _maker(kind: str) -> Any:
    def make(
        tables: bytes | None = None, level: str = "balanced", library: Library | None = None
    ) -> Calibrated:
        if not isinstance(tables, bytes) or len(tables) != 16:
            raise MissingTables(
                f"{kind} needs the 16-byte fingerprint of a model's tables: `sluice codec train`"
            )
        return _made(kind, tables, level, library or default_library())

    return make


@lru_cache(maxsize=64)
def _made(kind: str, digest: bytes, level: str, library: Library) -> Calibrated:
    return Calibrated(library.tables(kind, digest), digest, level)


cachegen, weir = _maker("cachegen"), _maker("weir")
