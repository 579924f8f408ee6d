"""Weights are told apart by their content, small ones by every byte."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from engine_adapter.vllm import weights
from engine_adapter.vllm.weights import NoWeights, fingerprint, header_bytes


def safetensors(path: Path, body: bytes, name: str = "w") -> None:
    header = json.dumps(
        {name: {"dtype": "U8", "shape": [len(body)], "data_offsets": [0, len(body)]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    safetensors(tmp_path / "model-1.safetensors", bytes(range(256)) * 4000)
    safetensors(tmp_path / "model-2.safetensors", bytes(1000))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_the_same_files_elsewhere_have_the_same_fingerprint(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    for file in directory.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert fingerprint(other) == fingerprint(directory)


@pytest.mark.parametrize("whole_bytes", [1 << 30, 0])
def test_another_tensor_name_size_or_file_name_is_another_model(
    directory: Path, whole_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "WHOLE_BYTES", whole_bytes)
    seen = {fingerprint(directory)}
    safetensors(directory / "model-2.safetensors", bytes(1000), name="v")
    seen.add(fingerprint(directory))
    safetensors(directory / "model-2.safetensors", bytes(1001))
    seen.add(fingerprint(directory))
    (directory / "model-2.safetensors").rename(directory / "model-3.safetensors")
    seen.add(fingerprint(directory))
    assert len(seen) == 4


def test_of_a_small_model_every_byte_counts(directory: Path) -> None:
    before = fingerprint(directory)
    content = bytearray((directory / "model-1.safetensors").read_bytes())
    content[777_777] ^= 1
    (directory / "model-1.safetensors").write_bytes(content)
    assert fingerprint(directory) != before


def test_a_large_model_is_read_in_windows(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WHOLE_BYTES", 0)
    monkeypatch.setattr(weights, "WINDOWS", 8)
    monkeypatch.setattr(weights, "WINDOW_BYTES", 64)
    before = fingerprint(directory)
    path = directory / "model-1.safetensors"
    content = bytearray(path.read_bytes())
    content[header_bytes(path) + 100] ^= 1
    path.write_bytes(content)
    assert fingerprint(directory) == before
    content[header_bytes(path) + 10] ^= 1
    path.write_bytes(content)
    assert fingerprint(directory) != before


def test_a_directory_without_weights_has_none(tmp_path: Path) -> None:
    with pytest.raises(NoWeights, match="holds no weights"):
        fingerprint(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"short", struct.pack("<Q", 1 << 40) + b"{}", struct.pack("<Q", 2) + b"no"]
)
def test_what_is_no_safetensors_header_is_body(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert header_bytes(path) == 0
