"""Codecs by name."""

from __future__ import annotations

import pytest

from cache.calibration.library import Library
from cache.codecs import registry
from cache.codecs.codec import MissingTables, UnknownCodec


def test_unknown_name() -> None:
    with pytest.raises(UnknownCodec, match="known are raw"):
        registry.make("zip")


@pytest.mark.parametrize(
    ("name", "config"), [("raw", {"level": 3}), ("int8", {"k_bits": 9}), ("int4", {"v_bits": 0})]
)
def test_configuration_that_a_codec_does_not_take(name: str, config: dict[str, int]) -> None:
    with pytest.raises(UnknownCodec, match="cannot take"):
        registry.make(name, config)


@pytest.mark.parametrize("name", registry.CALIBRATED)
@pytest.mark.parametrize("config", [{}, {"tables": b"short"}, {"tables": bytes(16)}, {"tables": "text"}])
def test_missing_tables_are_said_so(name: str, config: dict[str, object]) -> None:
    with pytest.raises(MissingTables):
        registry.make(name, config, library=Library(()))


def test_config_is_not_changed() -> None:
    config = {"k_bits": 4, "v_bits": 2}
    assert registry.make("int4", config).config() == {"k_bits": 4, "v_bits": 2}
    assert config == {"k_bits": 4, "v_bits": 2}
