"""Adapters by the names that an operator knows them under; no more namespaces open than are in use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cache.keys import Namespace
from engine_adapter.vllm.namespace import Namespaces
from tests.unit.engine_adapter.vllm.engines import LAYOUT, request
from tests.unit.engine_adapter.vllm.test_weights import safetensors

ENGINE = Namespace("m", "w", "", "float32", {}, LAYOUT.fingerprint())


@pytest.fixture
def namespaces() -> Namespaces:
    return Namespaces(ENGINE, Namespace.digest, lambda digest: None)


def asking(adapter: Path, name: str, salt: str | None = None) -> SimpleNamespace:
    """A request for an adapter."""
    asked = request("a", [1, 2, 3], salt)
    asked.lora_request = SimpleNamespace(lora_name=name, lora_path=str(adapter))
    return asked


def write_adapter(directory: Path, seed: int) -> Path:
    directory.mkdir(exist_ok=True)
    safetensors(directory / "adapter_model.safetensors", bytes([seed]) * 64)
    (directory / "adapter_config.json").write_text("{}")
    return directory


def test_an_adapters_chunks_are_found_by_its_name(namespaces: Namespaces, tmp_path: Path) -> None:
    tuned = write_adapter(tmp_path / "tuned", 1)
    digest = namespaces.of(asking(tuned, "tuned"))
    of_acme = namespaces.of(asking(tuned, "tuned", "sluice1:4:acme:exact"))
    assert digest is not None
    assert of_acme is not None
    assert namespaces.digest_of("", "exact", "tuned") == digest
    assert namespaces.digest_of("acme", "exact", "tuned") == of_acme != digest
    assert namespaces.digest_of("", "exact", "") == ENGINE.digest()
    assert [namespaces.adapter_of(one) for one in (digest, of_acme, ENGINE.digest())] == [
        "tuned",
        "tuned",
        "",
    ]


def test_a_name_stands_for_the_content_that_it_had_last(namespaces: Namespaces, tmp_path: Path) -> None:
    before = namespaces.of(asking(write_adapter(tmp_path / "one", 1), "tuned"))
    after = namespaces.of(asking(write_adapter(tmp_path / "two", 2), "tuned"))
    assert before != after == namespaces.digest_of("", "exact", "tuned")


def test_an_adapter_that_nobody_used_is_not_known(namespaces: Namespaces, tmp_path: Path) -> None:
    namespaces.of(asking(write_adapter(tmp_path / "one", 1), "tuned"))
    with pytest.raises(ValueError, match="'other' since this worker began; known: tuned"):
        namespaces.digest_of("", "exact", "other")


def test_what_was_not_used_for_long_is_closed_and_opens_again() -> None:
    is_open: list[bytes] = []

    def opened(namespace: Namespace) -> bytes:
        is_open.append(namespace.digest())
        return is_open[-1]

    namespaces = Namespaces(ENGINE, opened, is_open.remove, most=3)
    regular = namespaces.of(request("a", [1], "sluice1:4:acme:exact"))
    for number in range(20):
        namespaces.of(request("a", [1], f"random-{number}"))
        assert namespaces.of(request("a", [1], "sluice1:4:acme:exact")) == regular
        assert len(is_open) <= 3
    assert is_open[0] == regular, "it was used all the time and never closed"
    first = namespaces.of(request("a", [1], "random-0"))
    assert first in is_open
    assert namespaces.digest_of("acme", "exact", "") == regular
    assert len(is_open) == len(set(is_open)) == 3


def test_an_adapter_whose_namespace_was_closed_is_still_known(tmp_path: Path) -> None:
    namespaces = Namespaces(ENGINE, Namespace.digest, lambda digest: None, most=1)
    digest = namespaces.of(asking(write_adapter(tmp_path / "one", 1), "tuned"))
    assert digest is not None
    namespaces.of(request("a", [1]))
    assert namespaces.adapter_of(digest) == ""
    assert namespaces.digest_of("", "exact", "tuned") == digest
    assert namespaces.adapter_of(digest) == "tuned"


def test_after_a_reset_nothing_of_before_is_open() -> None:
    is_open: set[bytes] = set()

    def opened(namespace: Namespace) -> bytes:
        is_open.add(namespace.digest())
        return namespace.digest()

    namespaces = Namespaces(ENGINE, opened, is_open.remove)
    before = namespaces.of(request("a", [1]))
    namespaces.part()
    assert not is_open
    after = namespaces.of(request("a", [1]))
    assert after != before
    assert is_open == {after}
