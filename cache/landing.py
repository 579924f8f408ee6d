"""Where frames come in: verify everything they say about themselves, then decode into arena slots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from cache.arena import Segment, SlotRef
from cache.codecs.codec import Codec, CorruptPayload, UnknownCodec
from cache.frame import (
    HEAD_BYTES,
    CorruptFrame,
    ForeignVersion,
    FrameError,
    Header,
    PlainHeads,
    decode_head,
    payload_intact,
)
from cache.keys import ChunkKey
from cache.layout import KVLayout, view_of
from cache.tiers.tier import Bytes, Fault

_log = logging.getLogger(__name__)
RAW = "raw"
MakeCodec = Callable[[str, Mapping[str, Any]], Codec]


class FrameLanding:
    """Receives one batch of frames for the slots `refs`. A raw payload is read straight into its slot.

    `exact` tells of a key that it takes nothing that a lossy codec has written.
    """

    def __init__(
        self,
        segment: Segment,
        layout: KVLayout,
        blocks: int,
        keys: Sequence[ChunkKey],
        refs: Sequence[SlotRef],
        exact: Callable[[ChunkKey], bool],
        *,
        wall: float,
        make: MakeCodec,
    ) -> None:
        self._segment = segment
        self._layout = layout
        self._blocks = blocks
        self._plain = _plain_heads(layout, blocks)
        self._keys = keys
        self._refs = refs
        self._exact = exact
        self._wall = wall
        self._make = make
        self._rooms: list[Bytes] = [segment.memory(ref) for ref in refs]
        self._payloads: list[Bytes | None] = [None] * len(keys)
        self.headers: list[Header | None] = [None] * len(keys)

    def room(self, number: int) -> Bytes:
        """See `Landing.room`: the slot itself, which is unsealed until `finish`."""
        return self._rooms[number]

    def place(self, number: int, head: bytes | memoryview, nbytes: int) -> Bytes | Fault:
        """See `Landing.place`."""
        if len(head) >= HEAD_BYTES:
            header = self._plain.read(head, self._keys[number])
            if header is not None and header.payload_bytes + HEAD_BYTES == nbytes and not header.expires:
                self.headers[number] = header
                payload = self._payloads[number] = self._rooms[number]
                return payload
        return self._place(number, head, nbytes)

    def finish(self, faults: Sequence[Fault | None]) -> list[Fault | None]:
        """Verify the payloads that have arrived, decode them and seal their slots.

        `faults` are the tier's, the answer what is wrong in the end; that has no seal.
        """
        seal, refs = self._segment.seal, self._refs
        finished: list[Fault | None] = []
        for number, (fault, header, payload) in enumerate(
            zip(faults, self.headers, self._payloads, strict=True)
        ):
            if fault is None:
                if header is None or payload is None:
                    fault = Fault.TORN
                elif not payload_intact(header, payload):
                    fault = Fault.CORRUPT
                elif header.codec == RAW:
                    seal(refs[number], header.digest)
                else:
                    fault = self._decode(number, header, payload)
            finished.append(fault)
        return finished

    def _place(self, number: int, head: bytes | memoryview, nbytes: int) -> Bytes | Fault:
        try:
            header = decode_head(head)
        except FrameError as error:
            return _fault(error)
        fault = self._refuse(number, header, nbytes)
        if fault is not None:
            return fault
        payload = self._rooms[number]
        if header.codec != RAW:
            payload = np.empty(header.payload_bytes, dtype=np.uint8)
        elif header.payload_bytes != payload.nbytes:
            return Fault.LAYOUT
        self.headers[number], self._payloads[number] = header, payload
        return payload

    def _decode(self, number: int, header: Header, payload: Bytes) -> Fault | None:
        ref = self._refs[number]
        try:
            codec = self._make(header.codec, header.config)
            if not codec.keeps_every_token or (self._exact(self._keys[number]) and not codec.lossless):
                return Fault.CODEC
            codec.decode(payload, view_of(self._layout, self._rooms[number], self._blocks))
        except (CorruptPayload, UnknownCodec):
            return Fault.CODEC
        except Exception:
            # A codec that fails in a way it does not document is a miss like any other.
            _log.exception("codec %s cannot decode a chunk", header.codec)
            return Fault.CODEC
        self._segment.seal(ref)
        return None

    def _refuse(self, number: int, header: Header, nbytes: int) -> Fault | None:
        if header.frame_bytes != nbytes:
            return Fault.TORN
        if header.key != self._keys[number]:
            return Fault.KEY
        if header.layout != self._plain.layout or header.blocks != self._blocks:
            return Fault.LAYOUT
        if header.expires and header.expires <= self._wall:
            return Fault.EXPIRED
        return None


@lru_cache
def _plain_heads(layout: KVLayout, blocks: int) -> PlainHeads:
    return PlainHeads(layout.fingerprint(), blocks, blocks * layout.block_bytes)


def _fault(error: FrameError) -> Fault:
    if isinstance(error, CorruptFrame):
        return Fault.CORRUPT
    return Fault.VERSION if isinstance(error, ForeignVersion) else Fault.TORN
