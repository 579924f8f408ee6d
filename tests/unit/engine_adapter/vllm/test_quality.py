from __future__ import annotations

import pytest

from cache.keys import Namespace
from cache.settings import FileSettings, StoreSettings
from engine_adapter.vllm import quality


def namespace(kind: str) -> Namespace:
    return Namespace("m", "0" * 32, "", "bfloat16", {}, b"l" * 16, kind=kind)


def test_exact_kv_keeps_the_tiers_own_codec() -> None:
    assert quality.codec_of(namespace("exact")) is None
    assert quality.codec_of(namespace("something that nobody defined")) is None


@pytest.mark.parametrize("kind", ["high", "balanced", "small"])
def test_every_level_has_a_lossy_codec_even_without_tables(kind: str) -> None:
    codec = quality.codec_of(namespace(kind))
    assert codec is not None
    assert not codec.lossless


def test_kernels_are_prepared_only_where_something_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr(quality, "_compile", lambda: compiled.append(True))
    monkeypatch.setattr(quality, "KERNEL_PATIENCE", 60.0)
    quality.prepare_kernels(StoreSettings())
    assert not compiled
    quality.prepare_kernels(StoreSettings(file=FileSettings("/nowhere")))
    assert compiled
