"""Server-sent events: the first byte says how the rest is cut into reads; no cut changes what comes out."""

from __future__ import annotations

from gateway.errors import UpstreamFailed
from gateway.relay.sse import (
    EventSplitter,
    EventTooLong,
    Usage,
    error_event,
    event_end,
    has_end,
    has_error,
    split_events,
)

LIMIT = 512
FAMILIES = ("chat", "completions", "responses", "messages", "pooling")


def one(data: bytes) -> None:
    if not data:
        return
    step, stream = data[0] % 64 + 1, data[1:]
    splitter = EventSplitter(LIMIT)
    out = b""
    try:
        for start in range(0, len(stream), step):
            events = splitter.feed(stream[start : start + step])
            assert event_end(events) == len(events), "an event was cut"
            out += events
    except EventTooLong:
        assert len(splitter.held) > LIMIT
        assert stream.startswith(out)
        return
    assert out + splitter.held == stream
    # A blank line that ends nothing may wait for the next event.
    assert not stream[len(out) : event_end(stream)].strip(b"\r\n")
    pieces = split_events(out)
    assert all(event_end(piece) == len(piece) for piece in pieces)
    assert sum(map(len, pieces)) <= len(out)
    _read(stream)


def _read(tail: bytes) -> None:
    usage = Usage()
    usage.read(tail)
    assert min(usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) >= 0
    for family in FAMILIES:
        has_end(family, tail)
        told = error_event(family, UpstreamFailed("gone"), tail)
        assert event_end(told) == len(told)
        assert has_error(told)
