"""What a KV codec is: whole chunks in, bytes out, and back."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cache.layout import KVLayout, KVView

Bytes = npt.NDArray[np.uint8]


class CorruptPayload(ValueError):
    """The bytes are not what this codec writes for this layout. Nothing outside the view was touched."""


class UnknownCodec(ValueError):
    """No codec of this name, or none that takes this configuration."""


class MissingTables(UnknownCodec):
    """The codec needs the tables of a model, and none with the wanted fingerprint is at hand."""


class Codec(Protocol):
    """A way to write the KV of a chunk as bytes. Instances are immutable and may be used by several threads.

    The payload carries no header of its own: name, config, layout and block count travel in the frame.
    Every codec takes every input: a lossy one keeps a layer that holds NaN or infinity, or that would not
    shrink, as it is.
    """

    @property
    def name(self) -> str:
        """Registered name, e.g. `raw`, `int8`, `cachegen`."""
        ...

    @property
    def lossless(self) -> bool:
        """Whether decode gives back the same bits for every input, NaNs included."""
        ...

    @property
    def keeps_every_token(self) -> bool:
        """Whether decode gives back every token, though changed. If not, the codec's `present` says which
        there are, the others decode to zeros, and only an engine that attends to those alone may use the KV:
        no paged one. Whoever serves paged engines refuses such codecs (`refuse_holes`)."""
        ...

    def config(self) -> dict[str, Any]:
        """What decoding needs to know, as CBOR values; `registry.make(name, config)` rebuilds the codec."""
        ...

    def bound(self, layout: KVLayout, blocks: int) -> int:
        """The most bytes that `encode` can write for such a chunk. Raises ValueError for a layout that this
        codec cannot take (tables of another shape)."""
        ...

    def encode(self, view: KVView, out: Bytes) -> int:
        """Write the chunk to the front of `out` (at least `bound` bytes); returns the bytes taken.

        What lies in `out` behind them is undefined afterwards.
        """
        ...

    def decode(self, payload: Bytes, view: KVView) -> None:
        """Fill every element of `view`. Raises CorruptPayload; the view's content is then undefined."""
        ...

    def decode_layer(self, payload: Bytes, layer: int, view: KVView) -> None:
        """Fill one layer of `view`, reading only the bytes that this takes."""
        ...


def refuse_holes(codec: Codec) -> None:
    """Raise ValueError for a codec whose KV a paged engine would misread."""
    if not codec.keeps_every_token:
        raise ValueError(
            f"codec {codec.name} leaves tokens out, and a paged engine attends to every place of a prefix,"
            " also to empty ones; take a codec that keeps every token"
        )
