"""Where frames come in: verify everything they say about themselves, then decode into arena slots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cache.arena import Segment, SlotRef
from cache.codecs.codec import Codec, CorruptPayload, UnknownCodec
from cache.frame import CorruptFrame, ForeignVersion, FrameError, Header, decode_head, payload_intact
from cache.keys import ChunkKey
from cache.layout import KVLayout, view_of
from cache.tiers.tier import Bytes, Fault

_log = logging.getLogger(__name__)
RAW = "raw"
MakeCodec = Callable[[str, Mapping[str, Any]], Codec]


class FrameLanding:
    """Receives one batch of frames for the slots `refs`. A raw payload is read straight into its slot.

    `exact[i]` says that chunk i takes nothing that a lossy codec has written.
    """

    def __init__(
        self,
        segment: Segment,
        layout: KVLayout,
        blocks: int,
        keys: Sequence[ChunkKey],
        refs: Sequence[SlotRef],
        exact: Sequence[bool],
        *,
        wall: float,
        make: MakeCodec,
    ) -> None:
        self._segment = segment
        self._layout = layout
        self._fingerprint = layout.fingerprint()
        self._blocks = blocks
        self._keys = keys
        self._refs = refs
        self._exact = exact
        self._wall = wall
        self._make = make
        self._rooms: list[Bytes | None] = [None] * len(keys)
        self._payloads: list[Bytes | None] = [None] * len(keys)
        self.headers: list[Header | None] = [None] * len(keys)

    def room(self, number: int) -> Bytes:
        """See `Landing.room`: the slot itself, which is unsealed until `finish`."""
        room = self._rooms[number]
        if room is None:
            room = self._rooms[number] = self._segment.memory(self._refs[number])
        return room

    def place(self, number: int, head: bytes | memoryview, nbytes: int) -> Bytes | Fault:
        """See `Landing.place`."""
        try:
            header = decode_head(head)
        except FrameError as error:
            return _fault(error)
        fault = self._refuse(number, header, nbytes)
        if fault is not None:
            return fault
        self.headers[number] = header
        ref = self._refs[number]
        if header.codec == RAW:
            if header.payload_bytes != ref.nbytes:
                return Fault.LAYOUT
            payload = self.room(number)
        else:
            payload = np.empty(header.payload_bytes, dtype=np.uint8)
        self._payloads[number] = payload
        return payload

    def finish(self, number: int) -> Fault | None:
        """Verify the payload that has arrived, decode it and seal the slot; a Fault leaves it unsealed."""
        header, payload = self.headers[number], self._payloads[number]
        if header is None or payload is None:
            return Fault.TORN
        if not payload_intact(header, payload):
            return Fault.CORRUPT
        ref = self._refs[number]
        if header.codec == RAW:
            self._segment.seal(ref, header.digest)
            return None
        try:
            codec = self._make(header.codec, header.config)
            if not codec.keeps_every_token or (self._exact[number] and not codec.lossless):
                return Fault.CODEC
            codec.decode(payload, view_of(self._layout, self._segment.memory(ref), self._blocks))
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
        if header.layout != self._fingerprint or header.blocks != self._blocks:
            return Fault.LAYOUT
        if header.expires and header.expires <= self._wall:
            return Fault.EXPIRED
        return None


def _fault(error: FrameError) -> Fault:
    if isinstance(error, CorruptFrame):
        return Fault.CORRUPT
    return Fault.VERSION if isinstance(error, ForeignVersion) else Fault.TORN
