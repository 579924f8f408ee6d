"""The fuzzing harnesses still run: every input of their corpora, and some that are nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.__main__ import HERE, NAMES

INPUTS = [(name, file) for name in NAMES for file in sorted((HERE / "corpus" / name).iterdir())]


def harness(name: str) -> Callable[[bytes], None]:
    one: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.{name}").one
    return one


@pytest.mark.parametrize(("name", "file"), INPUTS, ids=[f"{name}/{file.name}" for name, file in INPUTS])
def test_inputs_of_the_corpus(name: str, file: Path) -> None:
    data = file.read_bytes()
    one = harness(name)
    one(data)
    for end in range(0, len(data), 7):
        one(data[:end])


@pytest.mark.parametrize("name", NAMES)
def test_every_harness_has_a_corpus_and_takes_anything(name: str) -> None:
    assert any(which == name for which, _ in INPUTS)
    one = harness(name)
    for data in (b"", b"\0", b"\xff" * 600, bytes(range(256))):
        one(data)


def test_a_harness_fails_where_there_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle that never fails would find nothing: a splitter that cuts an event is seen."""
    monkeypatch.setattr("gateway.relay.sse.event_end", len)
    with pytest.raises(AssertionError):
        harness("event_stream")(b"\x03data: a\n\ndata: b\n\nda")
