"""Calibrated codecs with tables for made-up KV, so that the contract depends on no model."""

from __future__ import annotations

from functools import cache

import numpy as np

from cache.calibration.fit import fit_cachegen, fit_weir
from cache.calibration.statistics import LayerStatistics
from cache.calibration.tables import Tables, fingerprint
from cache.codecs.calibrated import Calibrated
from cache.layout import KVLayout


def statistics(layers: int, heads: int, dim: int) -> list[LayerStatistics]:
    """Of normal numbers of which some channels are larger and some matter more."""
    rng = np.random.default_rng(9)
    channels = 2 * heads * dim
    made = []
    for _ in range(layers):
        layer = LayerStatistics(channels)
        mix = rng.standard_normal((channels, channels)).astype(np.float32) / np.sqrt(channels)
        for _ in range(3):
            rows = rng.standard_normal((120, channels)).astype(np.float32) @ (
                mix + np.eye(channels, dtype=np.float32)
            )
            layer.add(
                rows,
                rng.standard_normal((1, 120, channels)).astype(np.float32) * np.linspace(0.1, 1, channels),
            )
        made.append(layer)
    return made


@cache
def tables(kind: str, layers: int, heads: int, dim: int) -> Tables:
    """Tables fitted on `statistics`."""
    seen = statistics(layers, heads, dim)
    if kind == "weir":
        turned = 100.0 ** (-np.arange(dim // 2) / max(1, dim // 2))
        return fit_weir(seen, weights="made up", heads=heads, dim=dim, inverse_frequencies=turned)
    return fit_cachegen(seen, weights="made up", heads=heads, dim=dim, inverse_frequencies=np.zeros(0))


def codec(kind: str, layout: KVLayout, level: str = "balanced") -> Calibrated:
    """A calibrated codec for a layout."""
    made = tables(kind, layout.layers, layout.kv_heads, layout.head_dim)
    return Calibrated(made, fingerprint(made.to_bytes()), level)
