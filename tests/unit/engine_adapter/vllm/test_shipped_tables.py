"""The codecs' tables in the repository are those of the model in the repository."""

from __future__ import annotations

from pathlib import Path

import engine_adapter.demo
from cache.codecs.levels import levels_for
from engine_adapter.vllm.weights import fingerprint

MODELS = Path(engine_adapter.demo.__file__).parent / "models"


def test_the_shipped_model_has_levels_of_its_own() -> None:
    levels = levels_for(fingerprint(MODELS / "base").hex()[:32])
    assert {quality: level.codec for quality, level in levels.items()} == {
        "exact": "lossless",
        "high": "weir",
        "balanced": "weir",
        "small": "weir",
    }, "new weights need new tables: sluice codec train --model base --ship"
    assert all(levels[quality].measured for quality in ("high", "balanced", "small"))
