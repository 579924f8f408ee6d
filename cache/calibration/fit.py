"""From statistics to tables.

`weir`: let S be the covariance of a layer's rows and F their sensitivity, shrunk and regularised. In the
coordinates F^(1/2) x a squared error counts the same in every direction; U diagonalises F^(1/2) S F^(1/2).
Coefficients are U' F^(1/2) (x - mean), rows come back by F^(-1/2) U. `cachegen`: coefficients are the
channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from cache.calibration.clusters import cluster
from cache.calibration.statistics import F32, F64, LayerStatistics
from cache.calibration.tables import LayerTables, LevelTables, Tables, rounded
from cache.codecs.calibrated import anchors_of
from kernels import dispatch

WEIR_STEPS: Mapping[str, float] = {"high": 0.55, "balanced": 1.0, "small": 1.6}
"""Level -> step, in units in which the mean sensitivity of a channel is 1."""
CACHEGEN_WIDTHS: Mapping[str, float] = {"high": 0.6, "balanced": 1.25, "small": 1.75}
"""Level -> factor on the bin widths of early, middle and late layers."""

Scope = Literal["layer", "tensor", "head", "channel"]
"""What is decorrelated together: keys and values of a layer, all heads of each, or each head of each, or
nothing. A narrower scope needs smaller tables and less arithmetic."""
Sensitivity = Literal["shrunk", "full", "diagonal", "none"]
Allocation = Literal["water", "equal"]
"""Bits go where one step for all puts them, or every coefficient is coded to the same relative error."""
Coding = Literal["fitted", "fixed"]
"""Frequency tables, or codes of one width per coefficient."""

REGULARISATION = 0.3
"""Share of the mean sensitivity that is added to every direction: gradients of some texts do not tell all."""
ROUNDING = 0.5
"""Nearest. A wider zero bin saves bits, and cost more than it saved."""
SHRINKAGE = 0.5
"""How far the sensitivity is drawn towards its diagonal, which a few contexts tell more surely."""
BINS = (0.5, 1.0, 1.5)
"""Bin widths of early, middle and late layers (CacheGen, appendix)."""
GROUP = 10
TABLES = 48
_RARE = 0.002
"""A coefficient that is non-zero less often than this is left out."""


def fit_weir(
    statistics: Sequence[LayerStatistics],
    *,
    weights: str,
    heads: int,
    dim: int,
    inverse_frequencies: F64,
    steps: Mapping[str, float] = WEIR_STEPS,
    regularisation: float = REGULARISATION,
    scope: Scope = "layer",
    sensitivity: Sensitivity = "shrunk",
    allocation: Allocation = "water",
    coding: Coding = "fitted",
    rounding: float = ROUNDING,
    tables: int = TABLES,
) -> Tables:
    """Tables of `weir`. The defaults are the codec; other choices serve to measure what each part earns."""
    mask = _mask(heads, dim, scope)
    sensitivities = [_weighed(layer.sensitivity, sensitivity) * mask for layer in statistics]
    unit = np.sqrt(np.mean([np.trace(f) / len(f) for f in sensitivities]))
    finest = min((steps if allocation == "water" else WEIR_STEPS).values())
    layers = [
        rounded(_transform(layer, mask, f / unit**2, regularisation, finest, allocation))
        for layer, f in zip(statistics, sensitivities, strict=True)
    ]
    levels = {
        name: _level(
            layers,
            statistics,
            np.full((len(layers), 2), step, np.float32),
            rounding,
            group=None,
            tables=tables,
            coding=coding,
        )
        for name, step in steps.items()
    }
    layers = _without_unused(layers, levels)
    return Tables("weir", weights, heads, dim, inverse_frequencies, GROUP, tuple(layers), levels)


def fit_cachegen(
    statistics: Sequence[LayerStatistics],
    *,
    weights: str,
    heads: int,
    dim: int,
    inverse_frequencies: F64,
    widths: Mapping[str, float] = CACHEGEN_WIDTHS,
    by_depth: tuple[float, float, float] = BINS,
    group: int | None = GROUP,
    tables: int = TABLES,
) -> Tables:
    """Tables of `cachegen`: widths are in units of the root mean square of a layer's keys, or values."""
    layers, spread = [], np.empty((len(statistics), 2), np.float32)
    ones = np.ones(2 * heads * dim, np.float32)
    for i, layer in enumerate(statistics):
        variances = np.diag(layer.covariance)
        spread[i] = [np.sqrt(half.mean()) for half in np.split(variances, 2)]
        layers.append(
            rounded(LayerTables(layer.mean.astype(np.float32), layer.first.astype(np.float32), ones, ones))
        )
    third = np.arange(len(layers)) * 3 // len(layers)
    bins = np.array(by_depth)[third][:, None] * np.maximum(spread, 1e-20)
    levels = {
        name: _level(layers, statistics, (bins * width).astype(np.float32), 0.5, group=group, tables=tables)
        for name, width in widths.items()
    }
    return Tables("cachegen", weights, heads, dim, inverse_frequencies, group or 1, tuple(layers), levels)


def _mask(heads: int, dim: int, scope: Scope) -> F64:
    """[N, N]: 1 where two channels may be mixed."""
    size = {"layer": 2 * heads * dim, "tensor": heads * dim, "head": dim, "channel": 1}[scope]
    return np.kron(np.eye(2 * heads * dim // size), np.ones((size, size))).astype(np.float64)


def _weighed(sensitivity: F64, kind: Sensitivity) -> F64:
    if kind == "none":
        return np.eye(len(sensitivity))
    diagonal = np.diag(np.diag(sensitivity))
    if kind == "diagonal":
        return diagonal
    return sensitivity if kind == "full" else (1 - SHRINKAGE) * sensitivity + SHRINKAGE * diagonal


def _transform(
    layer: LayerStatistics,
    mask: F64,
    sensitivity: F64,
    regularisation: float,
    step: float,
    allocation: Allocation,
) -> LayerTables:
    channels = layer.channels
    weight = sensitivity + regularisation * np.trace(sensitivity) / channels * np.eye(channels)
    values, vectors = np.linalg.eigh(weight)
    root = (vectors * np.sqrt(values)) @ vectors.T
    unroot = (vectors / np.sqrt(values)) @ vectors.T
    power, turn = np.linalg.eigh(root @ (layer.covariance * mask) @ root)
    deviation = np.sqrt(np.maximum(power, 1e-12))[::-1]
    # A coefficient whose deviation is a seventh of the finest step is next to never non-zero.
    kept = max(1, int((deviation > step / 7).sum()))
    turn, scale = turn[:, ::-1][:, :kept], np.ones(kept) if allocation == "water" else deviation[:kept]
    return LayerTables(
        layer.mean.astype(np.float32),
        layer.first.astype(np.float32),
        np.ascontiguousarray((root @ (turn / scale)).T, np.float32),
        np.ascontiguousarray((turn * scale).T @ unroot, np.float32),
    )


def _level(
    layers: Sequence[LayerTables],
    statistics: Sequence[LayerStatistics],
    steps: F32,
    rounding: float,
    *,
    group: int | None,
    tables: int,
    coding: Coding = "fitted",
) -> LevelTables:
    counts, delta, active = [], [], []
    sums = np.zeros((2, 2))
    for i, (layer, seen) in enumerate(zip(layers, statistics, strict=True)):
        scale = 1 / np.repeat(steps[i], layer.mean.size // 2)
        plain = different = None
        for context in seen.sample:
            rows = context - layer.mean
            rows[0] = context[0] - layer.first
            turned = (rows * scale).T if layer.forward.ndim == 1 else (layer.forward / steps[i, 0]) @ rows.T
            coefficients = np.ascontiguousarray(turned, np.float32)
            levels = np.empty((len(coefficients), len(rows)), np.int16)
            if dispatch.to_levels(coefficients, rounding, levels):
                continue
            sums += _overshoot(coefficients, levels)
            plain = _count(levels, plain)
            if group:
                others, anchors = anchors_of(levels.shape[1], group)
                levels[:, others] -= levels[:, anchors]
                different = _count(levels, different)
        if plain is None:
            raise ValueError("no context of the calibration texts could be quantised; is its KV finite?")
        pays = np.zeros(len(plain), bool)
        if different is not None:
            pays = _code_length(different) < 0.99 * _code_length(plain)
            plain = np.where(pays[:, None], different, plain)
        often = (plain.sum(axis=1) - plain[:, 128]) >= _RARE * plain.sum(axis=1)
        used = len(plain) if layer.forward.ndim == 1 else int(max(np.flatnonzero(often), default=0)) + 1
        counts.append(plain[:used])
        delta.append(pays[:used])
        active.append(used)
    together = np.concatenate(counts)
    frequencies, chosen = cluster(together, tables) if coding == "fitted" else _widths(together)
    ends = np.cumsum(active)[:-1]
    one, more = (float(total / max(number, 1)) for total, number in sums)
    return LevelTables(
        steps, rounding, (one, more), tuple(active), tuple(np.split(chosen, ends)), tuple(delta), frequencies
    )


def _overshoot(coefficients: F32, levels: npt.NDArray[np.int16]) -> F64:
    """Sum and number of |x| - |level|, for magnitude 1 and for greater ones."""
    size = np.abs(levels)
    over = np.abs(coefficients) - size
    masks = (size == 1, size > 1)
    return np.array([[float(over[mask].sum(dtype=np.float64)), float(mask.sum())] for mask in masks])


def _count(levels: npt.NDArray[np.int16], before: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    """Counts [rows, 256] of symbols; what an alphabet does not hold is the escape, symbol 0."""
    symbols = levels.astype(np.int64) + 128
    symbols[(symbols < 1) | (symbols > 255)] = 0
    flat = (np.arange(len(levels))[:, None] * 256 + symbols).ravel()
    counts = np.bincount(flat, minlength=256 * len(levels)).reshape(len(levels), 256)
    return counts if before is None else before + counts


def _widths(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Frequencies [8, 256] that amount to codes of 0 to 7 bits, and the cheapest width for each row."""
    alphabets = np.zeros((8, 256), np.int64)
    for width, alphabet in enumerate(alphabets):
        begin = 128 - (1 << width >> 1)
        alphabet[begin : begin + (1 << width)] = 1
    inside = counts @ alphabets.T
    # What is outside is escaped: 12 bits, and 16 for the value.
    cost = inside * np.arange(8) + (counts.sum(axis=1, keepdims=True) - inside) * 28
    return np.stack([dispatch.frequencies(alphabet) for alphabet in alphabets]), cost.argmin(axis=1).astype(
        np.uint8
    )


def _code_length(counts: npt.NDArray[np.int64]) -> F64:
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / total
    lengths: F64 = -(counts * np.log2(np.maximum(shares, 1e-12))).sum(axis=1)
    return lengths


def _without_unused(layers: Sequence[LayerTables], levels: Mapping[str, LevelTables]) -> list[LayerTables]:
    most = [max(level.active[i] for level in levels.values()) for i in range(len(layers))]
    return [
        LayerTables(layer.mean, layer.first, layer.forward[:n], layer.inverse[:n])
        for layer, n in zip(layers, most, strict=True)
    ]
