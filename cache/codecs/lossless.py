"""`lossless`: the same bits in about two thirds of the bytes.

Trained KV uses few exponents: their entropy is near 2.7 of 8 bits, while sign and mantissa are noise
(ZipServ, 2603.17435, and SplitZip, 2605.01708, rest on the same fact). The exponent byte is coded by rANS
with a table for the keys and one for the values of a layer; the rest is stored as it is.

A coded layer: two frequency tables, uint32 length of the rANS stream, the stream, the rest.
"""

from __future__ import annotations

import struct

import numpy as np

from cache.codecs import histogram
from cache.codecs.codec import Bytes, CorruptPayload
from cache.codecs.pages import pages_of
from cache.codecs.sections import SectionCodec
from cache.layout import KVView
from kernels import dispatch
from kernels.pages import Pages


class Lossless(SectionCodec):
    """Exponents coded, the rest kept."""

    name = "lossless"
    lossless = True

    def _encode_layer(self, view: KVView, layer: int, notes: bytes, out: Bytes) -> int | None:
        memory, pages = pages_of(view, layer)
        rows, tables = _rows(pages)
        exponents = np.empty((rows, pages.tile), np.int16)
        rest = np.empty(rows * pages.tile * _rest_bytes(pages), np.uint8)
        counts = np.zeros((2, 256), np.int64)
        dispatch.split(memory, pages, exponents, rest, counts)
        # Bytes count from 0, symbols from 1: byte 255 (NaN, infinity) is left to the escape.
        freqs = np.stack([dispatch.frequencies(np.concatenate([[0], row[:255]])) for row in counts])
        head = b"".join(histogram.pack(freq) for freq in freqs)
        at = len(head) + 4
        room = out.nbytes - at - rest.nbytes
        if room <= 0:
            return None
        length = dispatch.encode(exponents, freqs, dispatch.starts_of(freqs), tables, out[at : at + room])
        if length < 0:
            return None
        out[:at] = np.frombuffer(head + struct.pack("<I", length), np.uint8)
        out[at + length : at + length + rest.nbytes] = rest
        return at + length + rest.nbytes

    def _decode_layer(self, body: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        memory, pages = pages_of(view, layer)
        rows, tables = _rows(pages)
        data = body.data
        keys, at = histogram.unpack(data, 0)
        values, at = histogram.unpack(data, at)
        rest = rows * pages.tile * _rest_bytes(pages)
        if at + 4 > body.nbytes:
            raise CorruptPayload(f"layer {layer} ends before its exponents")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length + rest != body.nbytes:
            raise CorruptPayload(f"layer {layer} has {body.nbytes} bytes, not {at + length + rest}")
        exponents = np.empty((rows, pages.tile), np.int16)
        slots = dispatch.slots_of(np.stack([keys, values]))
        if dispatch.decode(body[at : at + length], slots, tables, exponents):
            raise CorruptPayload(f"the exponents of layer {layer} are damaged")
        if dispatch.join(exponents, body[at + length :], pages, memory):
            raise CorruptPayload(f"layer {layer} has exponents that no number has")


def _rows(pages: Pages) -> tuple[int, Bytes]:
    rows = 2 * pages.blocks * pages.heads
    return rows, (np.arange(rows) % 2).astype(np.uint8)


def _rest_bytes(pages: Pages) -> int:
    return 2 * pages.words - 1
