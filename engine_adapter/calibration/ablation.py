"""Variants of the calibrated codecs, each with one part taken away, to see what the part earns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cache.calibration.fit import fit_cachegen, fit_weir
from cache.calibration.tables import Tables
from engine_adapter.calibration.kv import inverse_frequencies
from engine_adapter.calibration.train import Statistics
from engine_adapter.demo.model import Llama

_STEPS = {"fine": 0.6, "coarse": 1.3}
_PLAIN_STEPS = {"fine": 0.4, "coarse": 1.0}
_EQUAL_STEPS = {"fine": 1.0, "coarse": 2.0}
_WIDTHS = {"fine": 0.75, "coarse": 1.75}


def variants(model: Llama, statistics: Statistics) -> Iterator[tuple[str, Tables]]:
    """Labels and tables; every level name is a point of a curve of size against damage."""
    heads, dim = model.shape.num_key_value_heads, model.shape.head_dim
    turned, none = inverse_frequencies(model), np.zeros(0)

    def weir(frequencies: np.ndarray = turned, **options: object) -> Tables:
        seen = statistics.undone if frequencies.size else statistics.cached
        settings = {"steps": _STEPS, **options}
        return fit_weir(
            seen,
            weights="",
            heads=heads,
            dim=dim,
            inverse_frequencies=frequencies,
            **settings,  # type: ignore[arg-type]
        )

    def cachegen(frequencies: np.ndarray = none, **options: object) -> Tables:
        seen = statistics.undone if frequencies.size else statistics.cached
        settings = {"widths": _WIDTHS, **options}
        return fit_cachegen(
            seen,
            weights="",
            heads=heads,
            dim=dim,
            inverse_frequencies=frequencies,
            **settings,  # type: ignore[arg-type]
        )

    yield "weir", weir()
    yield "weir, full sensitivity", weir(sensitivity="full")
    yield "weir, sensitivity per channel", weir(sensitivity="diagonal")
    yield "weir, no sensitivity", weir(sensitivity="none", steps=_PLAIN_STEPS)
    yield "weir, keys and values apart", weir(scope="tensor")
    yield "weir, heads apart", weir(scope="head")
    yield "weir, no transform", weir(scope="channel")
    yield "weir, RoPE left in, no sensitivity", weir(none, sensitivity="none", steps=_PLAIN_STEPS)
    yield "weir, bits alike", weir(allocation="equal", steps=_EQUAL_STEPS)
    yield "weir, dead zone", weir(rounding=0.4)
    yield "weir, one table", weir(tables=1)
    yield "weir, codes of fixed width", weir(coding="fixed")
    yield "cachegen", cachegen()
    yield "cachegen, no differences", cachegen(group=None)
    yield "cachegen, RoPE undone", cachegen(turned)
    yield "cachegen, one width for all layers", cachegen(by_depth=(1.0, 1.0, 1.0))
    yield "cachegen, one table", cachegen(tables=1)
