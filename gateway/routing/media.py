"""Images and audio inside a prompt: long in base64, short in tokens."""

from __future__ import annotations

from typing import Final

Span = tuple[int, int]

LOOK_FROM: Final = 16_384
"""Shorter bodies are not looked through: what they hide is small."""
SPOTS: Final = 16
SPOT_BYTES: Final = 48
MARK: Final = b";base64,"
MEDIA_BYTES: Final = 4096
"""What one image or clip counts as: about a thousand tokens of text."""


def media_spans(body: bytes) -> tuple[Span, ...]:
    """Where the base64 data of `data:` URLs lies, in order, without overlap.

    Searching half a megabyte for the mark takes longer than everything else that routing does, so it is done
    only where one of a few samples looks like base64.
    """
    size = len(body)
    if size < LOOK_FROM:
        return ()
    for spot in range(size // (2 * SPOTS), size, size // SPOTS):
        if body[spot : spot + SPOT_BYTES].translate(None, b"+/=").isalnum():
            break
    else:
        return ()
    spans: list[Span] = []
    at = body.find(MARK)
    while at >= 0:
        start = at + len(MARK)
        end = body.find(b'"', start)
        if end < 0:
            end = size
        spans.append((start, end))
        at = body.find(MARK, end)
    return tuple(spans)


def text_bytes(offset: int, spans: tuple[Span, ...]) -> int:
    """What the first `offset` bytes count as: text as it is, media that have begun MEDIA_BYTES each."""
    counted = offset
    for start, end in spans:
        if start >= offset:
            break
        counted += MEDIA_BYTES - (min(end, offset) - start)
    return counted
