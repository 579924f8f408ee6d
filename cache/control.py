"""What an operator may ask of the KV layer of one engine: the verbs, as they travel.

A worker's control server takes these, `gateway.api` passes them on, `sluice cache` writes them. Light on
purpose: no NumPy, no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cache.keys import EXACT

LONGEST_SECONDS = 600.0


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which chunks: those of a prompt's token ids, or those with the keys named, or every one.

    `tokens` select the chunks of one prompt under `tenant`, `quality` and `adapter`; `keys` (hexadecimal)
    any; `everything` all chunks there are, or all of `tenant` and of `adapter` where these are named.
    """

    tokens: list[int] = []
    keys: list[str] = []
    everything: bool = False
    tenant: str = ""
    quality: str = EXACT
    adapter: str = ""
    """Name of a LoRA adapter, as requests give it; empty: of the model without one."""

    def __post_init__(self) -> None:
        if sum((bool(self.tokens), bool(self.keys), self.everything)) != 1:
            raise ValueError("select chunks by one of: tokens (a prompt's ids), keys, everything")


class Lookup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="lookup", tag_field="verb"):
    """How much of a prompt is kept, and where."""

    select: Selection


class Prefetch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="prefetch", tag_field="verb"):
    """Bring a prompt's chunks from slower tiers into memory."""

    select: Selection
    seconds: float = 30.0


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pin", tag_field="verb"):
    """Keep chunks from eviction. A pin has an owner and always ends."""

    select: Selection
    owner: str
    seconds: float = 3600.0


class Unpin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unpin", tag_field="verb"):
    """End an owner's pins."""

    select: Selection
    owner: str


class Clear(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="clear", tag_field="verb"):
    """Forget chunks in every tier."""

    select: Selection


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="move", tag_field="verb"):
    """Copy chunks from one tier to another; unless `keep`, then remove them from the first."""

    select: Selection
    source: str
    target: str
    keep: bool = False
    seconds: float = 60.0


class Compress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="compress", tag_field="verb"):
    """Write what a tier has of the chunks again with another lossless codec; `raw` decompresses."""

    select: Selection
    tier: str
    codec: str = "lossless"
    config: Mapping[str, Any] = {}
    seconds: float = 60.0


Command = Lookup | Prefetch | Pin | Unpin | Clear | Move | Compress


class CommandError(ValueError):
    """The command cannot be carried out; the message says why."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a command did, in one engine."""

    selected: int
    """Chunks that the selection names; for `everything`, those that were known."""
    done: int
    """Chunks that the verb did its work on; for `lookup` and `prefetch`, leading ones."""
    tokens: int = 0
    """The same in tokens, for verbs about a prompt."""
    tiers: dict[str, int] = {}
    """Tokens by the tier they would come from, fastest first."""


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """One known chunk."""

    key: str
    tiers: dict[str, int]
    """Bytes in each tier that has it, fastest first."""
    tenant: str = ""
    adapter: str = ""
    """Name of the LoRA adapter, where a request since the worker's start has used it."""
    position: int = 0
    """Of its first token in its sequence; 0 if not read yet."""
    holds: int = 0
    pins: dict[str, float] = {}
    """Wall-clock ends by owner."""
    expires: float | None = None


class Share(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a tenant or a namespace has, and may have where it is bounded, in bytes by tier."""

    used: dict[str, int]
    quotas: dict[str, int] = {}
    tenant: str = ""
    """Of a namespace, like the next two."""
    quality: str = ""
    adapter: str = ""
    """Name of its LoRA adapter, where a request since the worker's start has used it."""


class Shares(msgspec.Struct, frozen=True):
    """Who has how much."""

    tenants: dict[str, Share]
    """By name; the empty one is everybody without one."""
    namespaces: dict[str, Share]
    """By digest in hexadecimal."""


_decoder = msgspec.json.Decoder(Command)


def read_command(text: bytes) -> Command:
    """Raises CommandError, which names the field that is wrong."""
    try:
        command: Command = _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise CommandError(str(error)) from error
    seconds = getattr(command, "seconds", 1.0)
    if not 0 < seconds <= LONGEST_SECONDS and not isinstance(command, Pin):
        raise CommandError(f"seconds is a number above 0 and at most {LONGEST_SECONDS:g}")
    if isinstance(command, Pin) and not seconds > 0:
        raise CommandError("a pin's seconds are above 0")
    return command
