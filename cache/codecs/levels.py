"""Quality levels that a request may ask for, and what was measured about each.

With tables for the model the lossy levels are `weir`; without, uniform quantisation at widths that are safe
for most models, and no figures: nobody has measured them on that model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from cache.calibration.library import Library, default_library
from cache.codecs import registry
from cache.codecs.codec import Codec

Quality = Literal["exact", "high", "balanced", "small"]
QUALITIES: tuple[Quality, ...] = ("exact", "high", "balanced", "small")

_WITHOUT_TABLES: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "exact": ("lossless", {}),
        "high": ("int8", {}),
        "balanced": ("int4", {"k_bits": 5, "v_bits": 4}),
        "small": ("int4", {"k_bits": 4, "v_bits": 3}),
    }
)


@dataclass(frozen=True, slots=True)
class Level:
    """A quality, how it is stored, and what was measured on contexts that its tables were not made from."""

    quality: Quality
    codec: str
    config: Mapping[str, Any]
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Empty: not measured on this model. Otherwise `cache.calibration.quality.Measured.record()`."""

    def build(self) -> Codec:
        """The codec; raises UnknownCodec if its tables went away."""
        return registry.make(self.codec, self.config)


def levels_for(weights: str, library: Library | None = None) -> dict[Quality, Level]:
    """The levels of a model, by the fingerprint of its weights (`engine_adapter.vllm.weights`, 32 digits)."""
    library = library or default_library()
    made = {quality: Level(quality, *_WITHOUT_TABLES[quality]) for quality in QUALITIES}
    digest = library.for_model("weir", weights)
    if digest is not None:
        tables = library.tables("weir", digest)
        for quality in QUALITIES[1:]:
            if quality in tables.levels:
                config = {"tables": digest, "level": quality}
                made[quality] = Level(quality, "weir", config, tables.levels[quality].quality)
    return made
