"""What a tier is: a dumb place for frames, in batches, that answers by a deadline and never raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from cache.frame import FrameError, head_bytes
from cache.keys import ChunkKey
from cache.settings import Owner

Bytes = npt.NDArray[np.uint8]


class Fault(StrEnum):
    """Why a chunk was not read or written. Every one of them is a miss or a lost save to the layer above."""

    ABSENT = "absent"
    TORN = "torn"
    """Shorter or longer than its header says, or no header at all."""
    CORRUPT = "corrupt"
    """A checksum differs."""
    VERSION = "version"
    """A frame format that this version cannot read."""
    LAYOUT = "layout"
    """KV of another layout, or of another number of blocks."""
    KEY = "key"
    """A frame of another chunk, tenant or model under this key."""
    CODEC = "codec"
    """A codec that is not there, cannot decode the payload, or is lossy where exact KV was asked for."""
    EXPIRED = "expired"
    FULL = "full"
    QUOTA = "quota"
    """The tenant has as much here as it may."""
    NAMESPACE_QUOTA = "namespace quota"
    """The namespace has."""
    TOO_LARGE = "too large"
    """No place here is large enough for such a frame."""
    TIMEOUT = "timeout"
    GONE = "gone"
    """No connection, no such directory, access denied."""
    IO = "io"

    @property
    def breaks(self) -> bool:
        """Whether it speaks against the tier as a whole rather than one chunk."""
        return self in (Fault.TIMEOUT, Fault.GONE, Fault.IO)


class Frame(NamedTuple):
    """A frame to be written: its bytes are `head` followed by `payload`, which is somebody else's memory."""

    key: ChunkKey
    head: bytes
    payload: Bytes
    tenant: str = ""

    @property
    def nbytes(self) -> int:
        return len(self.head) + self.payload.nbytes


class Found(NamedTuple):
    """A frame that is there."""

    key: ChunkKey
    nbytes: int
    used: float
    """Wall-clock second of its last use, as far as the tier knows."""
    tenant: str = ""
    """Whose it is, as far as the tier knows."""


class Landing(Protocol):
    """Receives the frames of one `get`. Verification is its business, not the tier's."""

    def room(self, number: int) -> Bytes:
        """Where an unencoded payload of frame `number` belongs: a tier may read there before it asks `place`.

        What lies there counts for nothing until `place` has returned this very array for the frame.
        """
        ...

    def place(self, number: int, head: bytes | memoryview, nbytes: int) -> Bytes | Fault:
        """Memory for the payload of the frame asked for as `number`; a Fault refuses it unread.

        `head` is at least the frame's whole head (`frame.head_bytes`), `nbytes` the size of the whole frame.
        """
        ...


def deliver(landing: Landing, number: int, frame: memoryview) -> Fault | None:
    """Hand a whole frame that is in memory to `landing`: what a tier's `get` does with each."""
    place = landing.place(number, frame, len(frame))
    if isinstance(place, Fault):
        return place
    try:
        payload = frame[head_bytes(frame) :]
    except FrameError:
        return Fault.TORN
    if len(payload) != place.nbytes:
        return Fault.TORN
    np.copyto(place, np.frombuffer(payload, dtype=np.uint8))
    return None


@runtime_checkable
class Apportioned(Protocol):
    """A tier that knows how much of it each tenant and namespace has, and may bound that: `put` then answers
    QUOTA or NAMESPACE_QUOTA."""

    def used_by(self) -> Mapping[Owner, int]:
        """Bytes by owner, of all who share the place, as far as this process has heard. Asks no server."""
        ...


@runtime_checkable
class Accounting(Protocol):
    """A tier whose server, or whose listing, has to be asked for what owners have."""

    def shares(self, owners: Iterable[Owner], deadline: float) -> Mapping[Owner, int]:
        """Bytes by owner, of all who share the place; what could not be asked by the deadline as last
        heard."""
        ...


class Tier(Protocol):
    """A place for frames. Called by several threads, but at most one `get` and one `put` at a time.

    Puts are atomic: a reader sees a whole frame or none, whatever dies meanwhile. A tier never evicts by
    itself; `put` answers FULL and the store decides. Batch methods answer for every key in order and raise
    nothing that has to do with the place; `deadline` is on `time.monotonic`, after which they answer TIMEOUT
    for what is left.
    """

    @property
    def name(self) -> str: ...

    @property
    def capacity(self) -> int | None:
        """Bytes it may take, None if its own server sees to that."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may add frames."""
        ...

    def used(self) -> int:
        """Bytes taken, by all who share it; 0 if it cannot tell."""
        ...

    def get(self, keys: Sequence[ChunkKey], landing: Landing, deadline: float) -> list[Fault | None]:
        """Read frames into the memory that `landing` names; None where all bytes arrived, unverified."""
        ...

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        """Write frames; None where one is there now, complete. A present one is replaced."""
        ...

    def delete(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        """Remove frames; the bytes that this freed, ABSENT where there was none."""
        ...

    def contains(self, keys: Sequence[ChunkKey], deadline: float) -> list[Found | Fault]:
        """What is there of each key, ABSENT where there is nothing."""
        ...

    def scan(self, deadline: float) -> Iterator[Found]:
        """What is there, in any order; ends early at the deadline or when the place fails."""
        ...

    def close(self) -> None: ...
