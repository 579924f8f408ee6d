"""A fingerprint of a model's weights: KV computed with other weights is other KV, whatever the model's name.

Small models are hashed whole. Of large ones it hashes every header (names, shapes, types and positions of all
tensors), every file's size, and evenly spread windows of its bytes: training or merging moves nearly every
weight, so two different models agree in none of thousands of windows, while reading a 100 GB checkpoint once
more would cost minutes at each start. Somebody who *wants* two files to collide can make them; such a person
can also write to the model directory.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import blake3

WHOLE_BYTES = 1 << 30
"""Models up to this size are hashed whole."""
WINDOWS = 4096
WINDOW_BYTES = 16 * 1024
_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
"""The first pattern that matches anything names the weights."""


class NoWeights(LookupError):
    """The directory holds no weight files, so nothing tells its KV from another model's."""


def weight_files(directory: Path) -> list[Path]:
    """The weight files of a model directory, or of an adapter's, in the order of their names."""
    for pattern in _PATTERNS:
        if files := sorted(path for path in directory.glob(pattern) if path.is_file()):
            return files
    raise NoWeights(f"{directory} holds no weights ({', '.join(_PATTERNS)})")


def fingerprint(directory: Path) -> bytes:
    """32 bytes that differ when any tensor's name, shape, type or (see above) content differs.

    Raises NoWeights or OSError.
    """
    files = weight_files(directory)
    sizes = [path.stat().st_size for path in files]
    hasher = blake3.blake3(b"sluice.weights.1", max_threads=blake3.blake3.AUTO)
    for path, size in zip(files, sizes, strict=True):
        hasher.update(struct.pack("<I", len(path.name)) + path.name.encode() + struct.pack("<Q", size))
        if sum(sizes) <= WHOLE_BYTES:
            hasher.update_mmap(path)
            continue
        with path.open("rb") as file:
            for start, length in _windows(size, header_bytes(path)):
                file.seek(start)
                hasher.update(file.read(length))
    return hasher.digest()


def header_bytes(path: Path) -> int:
    """How many bytes at the front of a safetensors file describe its tensors; 0 for other files."""
    if path.suffix != ".safetensors":
        return 0
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8:
            return 0
        (length,) = struct.unpack("<Q", head)
        size = path.stat().st_size
        if length > size - 8:
            return 0
        try:
            json.loads(file.read(length))
        except ValueError:
            return 0
        return int(8 + length)


def _windows(size: int, header: int) -> Iterator[tuple[int, int]]:
    yield 0, header
    body = size - header
    step = max(body // WINDOWS, WINDOW_BYTES)
    for start in range(header, size, step):
        yield start, min(WINDOW_BYTES, size - start)
    yield max(header, size - WINDOW_BYTES), WINDOW_BYTES
