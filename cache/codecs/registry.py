"""Codecs by name. A codec's module is imported when it is first asked for: some compile kernels."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cache.calibration.library import Library
from cache.codecs.codec import Codec, UnknownCodec

_MAKERS: Mapping[str, str] = MappingProxyType(
    {
        "raw": "cache.codecs.raw:Raw",
        "lossless": "cache.codecs.lossless:Lossless",
        "fp8": "cache.codecs.fp8:Float8",
        "int8": "cache.codecs.affine:int8",
        "int4": "cache.codecs.affine:int4",
        "int2": "cache.codecs.affine:int2",
        "cachegen": "cache.codecs.calibrated:cachegen",
        "weir": "cache.codecs.calibrated:weir",
        "dropped": "cache.codecs.dropped:Dropped",
    }
)
"""Name -> `module:callable`; the callable takes the configuration as keyword arguments."""


CALIBRATED = ("cachegen", "weir")
"""Codecs that need the tables of a model."""


def names() -> tuple[str, ...]:
    """All registered names."""
    return tuple(_MAKERS)


def make(name: str, config: Mapping[str, Any] | None = None, *, library: Library | None = None) -> Codec:
    """The codec of a name with a configuration, which may come from a frame that somebody else wrote.

    Calibrated codecs look for their tables in `library`; by default in what ships and in this user's folder.

    Raises UnknownCodec for a name or a configuration that does not exist, and its child MissingTables if the
    tables that the configuration names are not at hand.
    """
    try:
        module, _, maker = _MAKERS[name].partition(":")
    except KeyError:
        raise UnknownCodec(f"codec {name!r} does not exist; known are {', '.join(_MAKERS)}") from None
    create = getattr(importlib.import_module(module), maker)
    try:
        options: dict[str, Any] = dict(config or {})
        if name in CALIBRATED:
            options["library"] = library
        codec: Codec = create(**options)
    except UnknownCodec:
        raise
    except (TypeError, ValueError) as error:
        raise UnknownCodec(
            f"codec {name!r} cannot take the configuration {dict(config or {})!r}: {error}"
        ) from error
    return codec
