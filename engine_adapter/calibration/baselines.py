"""Baselines for the bench that nobody should store KV with: zstd, and CacheGen's arithmetic as released."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from cache.codecs.codec import Bytes, CorruptPayload
from cache.codecs.pages import pages_of
from cache.codecs.sections import SectionCodec
from cache.layout import KVView
from kernels import dispatch

_TABLES = 256
"""Tables that one call of the coder takes."""


class Zstd(SectionCodec):
    """zstd on raw pages, bytes of a kind next to each other (without that it saves next to nothing)."""

    lossless = True

    def __init__(self, level: int = 3) -> None:
        import zstandard

        self.name = f"zstd-{level}"
        self._zstd, self._level = zstandard, level

    def _encode_layer(self, view: KVView, layer: int, notes: bytes, out: Bytes) -> int | None:
        planes = (
            np.ascontiguousarray(view.pages[layer]).view(np.uint8).reshape(-1, view.pages[layer].itemsize).T
        )
        packed = self._zstd.ZstdCompressor(self._level).compress(np.ascontiguousarray(planes).data)
        if len(packed) > out.nbytes:
            return None
        out[: len(packed)] = np.frombuffer(packed, np.uint8)
        return len(packed)

    def _decode_layer(self, body: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        page = view.pages[layer]
        planes = np.frombuffer(self._zstd.ZstdDecompressor().decompress(body.tobytes()), np.uint8)
        np.copyto(
            page,
            np.ascontiguousarray(planes.reshape(page.itemsize, -1).T).view(page.dtype).reshape(page.shape),
        )


class ReleasedCacheGen(SectionCodec):
    """CacheGen as its released code and LMCache do it, for models of fewer than ten layers: 32 bins.

    Every token of a layer's keys, or values, is scaled by its largest channel and rounded to 31 symbols; each
    chunk ships the cumulative table of every (layer, channel), 33 entries of 16 bits, a 32-bit length of
    every stream, and 16-bit scales. No anchors, no differences, no offline tables. Here our coder makes one
    stream of all channels, so the byte or two that each of their streams wastes at its end is not charged.
    """

    def __init__(self, bins: int = 32) -> None:
        self.name = f"cachegen-released-{bins}"
        self._bins, self._most = bins, bins // 2 - 1

    def config(self) -> dict[str, Any]:
        return {"bins": self._bins}

    def _encode_layer(self, view: KVView, layer: int, notes: bytes, out: Bytes) -> int | None:
        memory, pages = pages_of(view, layer)
        channels = pages.heads * pages.dim
        rows = np.empty((view.tokens, 2 * channels), np.float32)
        nothing = np.zeros((view.tokens, 0), np.float32)
        if dispatch.read_tokens(memory, pages, nothing, nothing, rows):
            return None
        at = 0
        for half in np.split(rows, 2, axis=1):
            scale = np.maximum(np.abs(half).max(axis=1), 1e-30).astype(np.float16).astype(np.float32)
            symbols = np.ascontiguousarray(np.round(half / scale[:, None] * self._most).T.astype(np.int16))
            out[at : at + 2 * view.tokens] = scale.astype("<f2").view(np.uint8)
            at += 2 * view.tokens
            for begin in range(0, channels, _TABLES):
                part = symbols[begin : begin + _TABLES]
                at = self._encode_part(part, out, at)
        return at

    def _encode_part(self, symbols: Any, out: Bytes, at: int) -> int:
        offset = np.arange(len(symbols))[:, None] * 256
        counts = np.bincount((offset + symbols + 128).ravel(), minlength=256 * len(symbols)).reshape(-1, 256)
        # The ramp that gives every symbol a slot.
        counts[:, 128 - self._most : 129 + self._most] += 1
        freqs = np.stack([dispatch.frequencies(row) for row in counts])
        tables = np.arange(len(symbols)).astype(np.uint8)
        charged = len(symbols) * (2 * (self._bins + 1) + 4)
        stored = freqs[:, 128 - self._most : 129 + self._most].astype("<u2").tobytes()
        out[at : at + charged] = np.frombuffer(stored.ljust(charged, b"\0")[:charged], np.uint8)
        at += charged
        length = dispatch.encode(symbols, freqs, dispatch.starts_of(freqs), tables, out[at + 4 :])
        out[at : at + 4] = np.frombuffer(struct.pack("<I", length), np.uint8)
        return at + 4 + int(length)

    def _decode_layer(self, body: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        memory, pages = pages_of(view, layer)
        channels = pages.heads * pages.dim
        halves, at = [], 0
        for _ in range(2):
            scale = np.frombuffer(body[at : at + 2 * view.tokens].tobytes(), "<f2").astype(np.float32)
            at += 2 * view.tokens
            symbols = np.empty((channels, view.tokens), np.int16)
            for begin in range(0, channels, _TABLES):
                at = self._decode_part(body, at, symbols[begin : begin + _TABLES])
            halves.append(symbols.T / np.float32(self._most) * scale[:, None])
        rows = np.ascontiguousarray(np.concatenate(halves, axis=1), np.float32)
        nothing = np.zeros((view.tokens, 0), np.float32)
        dispatch.write_tokens(rows, pages, nothing, nothing, memory)

    def _decode_part(self, body: Bytes, at: int, symbols: Any) -> int:
        width = 2 * self._most + 1
        stored = np.frombuffer(body[at : at + 2 * len(symbols) * width].tobytes(), "<u2").reshape(-1, width)
        freqs = np.zeros((len(symbols), 256), np.uint16)
        freqs[:, 128 - self._most : 129 + self._most] = stored
        freqs[:, 0] = 4096 - stored.astype(np.int64).sum(axis=1)
        at += len(symbols) * (2 * (self._bins + 1) + 4)
        (length,) = struct.unpack("<I", body[at : at + 4].tobytes())
        tables = np.arange(len(symbols)).astype(np.uint8)
        if dispatch.decode(body[at + 4 : at + 4 + length], dispatch.slots_of(freqs), tables, symbols):
            raise CorruptPayload("a damaged stream")
        return at + 4 + int(length)
