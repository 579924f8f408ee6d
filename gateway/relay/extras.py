"""What a client asks of the gateway: by header, or in the body under `sluice`, which no engine sees."""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.errors import InvalidRequest

STREAM_HEADER = b"x-sluice-stream"
BODY_KEY = "sluice"

Mode = Literal["resumable", "detached"]
Quality = Literal["exact", "high", "balanced", "small"]


class LogOptions(msgspec.Struct, frozen=True, gc=False):
    """Keep the answer's events; `docs/streams.md` says what the modes mean."""

    mode: Mode
    ids: bool = False
    """Number the events of the answer itself by `id:` lines."""


class Extras(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `sluice` object."""

    stream: Mode | None = None
    ids: bool = False
    kv_quality: Quality = "exact"
    """Of the KV that the answer may rest on, see `docs/kv-layer.md`."""

    @property
    def log(self) -> LogOptions | None:
        """None: keep nothing."""
        return None if self.stream is None else LogOptions(self.stream, self.ids)


_decoder = msgspec.json.Decoder(Extras | None)


def from_header(value: bytes) -> LogOptions:
    """The options in `resumable`, `detached`, `resumable; ids`. Raises InvalidRequest."""
    mode, _, option = (part.strip() for part in value.decode("latin-1").lower().partition(";"))
    if mode == "resumable" and option in ("", "ids"):
        return LogOptions("resumable", option == "ids")
    if mode == "detached" and option in ("", "ids"):
        return LogOptions("detached", option == "ids")
    raise InvalidRequest(
        "The header x-sluice-stream must be `resumable` or `detached`, and may add `; ids`, "
        f"not {value[:40].decode('latin-1')!r}.",
        code="invalid_header",
        param="x-sluice-stream",
    )


def from_body(raw: msgspec.Raw) -> Extras:
    """What the body's `sluice` object asks for. Raises InvalidRequest."""
    try:
        return _decoder.decode(raw) or Extras()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"Wrong value for '{BODY_KEY}': {error}. It looks like "
            '{"stream": "resumable" or "detached", "ids": true or false, '
            '"kv_quality": "exact", "high", "balanced" or "small"}.',
            code="invalid_type",
            param=BODY_KEY,
        ) from None
