"""Chunked bodies: no cut changes payload, verdict or what follows; the fast path agrees with the reader."""

from __future__ import annotations

from gateway.relay.framing import LAST_CHUNK, ChunkedReader, FramingError, chunk, whole_chunk


def read(data: bytes, step: int) -> tuple[bytes, bool, bytes] | None:
    """Payload, whether it ended, and what followed; None where it is no framing."""
    reader = ChunkedReader()
    payload = b""
    try:
        for start in range(0, len(data), step):
            payload += reader.feed(data[start : start + step])
    except FramingError:
        return None
    return payload, reader.done, reader.excess


def one(data: bytes) -> None:
    if not data:
        return
    step, body = data[0] % 16 + 1, data[1:]
    at_once = read(body, len(body) or 1)
    if len(body) < 1024:  # a longer line is refused by its length where it is cut, else by what is in it
        assert read(body, step) == at_once
    if whole_chunk(body):
        reader = ChunkedReader()
        assert chunk(reader.feed(body)) == body
        assert reader.at_boundary
    if at_once is not None:
        payload, done, _ = at_once
        again = read(chunk(payload) + LAST_CHUNK, step)
        assert again == (payload, True, b"")
        assert done or len(payload) < len(body) or not body
