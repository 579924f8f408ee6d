"""What a packetizer needs of the network, so that another kind of path needs no change to it."""

from __future__ import annotations

from typing import Protocol


class DatagramPath(Protocol):
    """A connected path to one peer. A message arrives whole, or not at all; in any order; perhaps late."""

    @property
    def queued(self) -> int:
        """Bytes that were taken and have not left this host. A packet is only built when this is 0."""
        ...

    def send(self, packet: bytes) -> None:
        """Send a message of at most 1,100 bytes, without repeating it if it is lost."""
        ...

    def send_reliable(self, packet: bytes) -> None:
        """Send a message of at most 60,000 bytes, repeated by the path until it arrives."""
        ...
