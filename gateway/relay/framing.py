"""How a worker's answer is delimited on the wire (RFC 9112 section 6), as a sans-I/O reader.

Chunked answers are relayed as they came wherever they can be: `whole_chunk` recognises the common case, one
chunk per read, without touching the payload. `ChunkedReader` handles every other cut.
"""

from __future__ import annotations

from enum import Enum


class Framing(Enum):
    NONE = "none"
    """No body: 204, 304."""
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """The body ends when the connection does."""


class FramingError(Exception):
    """The worker's bytes are not the framing that its head promised."""


_HEX = frozenset(b"0123456789abcdefABCDEF")
_LONGEST_SIZE_LINE = 1024
_LONGEST_TRAILER = 16 * 1024
LAST_CHUNK = b"0\r\n\r\n"


def _size_lines(longest: int) -> tuple[bytes, ...]:
    """Size lines, by the length of the whole chunk. No chunk is 21 bytes long: there, more than fits."""
    lines = [b"0" * (longest + 1)] * (longest + 1)
    payload = 1
    while (whole := len(line := b"%x\r\n" % payload) + payload + 2) <= longest:
        lines[whole] = line
        payload += 1
    return tuple(lines)


_SIZE_LINES = _size_lines(2048)
"""Of chunks up to this length, which nearly all events are within."""


def whole_chunk(data: bytes) -> bool:
    """Is `data` exactly one chunk whose payload ends an SSE event (`...\\n\\n`)?

    False says nothing: the reader decides then. A chunk extension makes it False. The length of a whole chunk
    leaves only one size line, as servers write it; looking that up is cheaper than reading the one that came.
    """
    if data[-4:] != b"\n\n\r\n":
        return False
    if len(data) < len(_SIZE_LINES):
        return data.startswith(_SIZE_LINES[len(data)])
    end = data.find(b"\r\n", 1, 10)
    return end > 0 and data[:end] == b"%x" % (len(data) - end - 4)


def parse_chunk_size(line: bytes) -> int:
    """The size in a chunk header line without its CRLF; extensions are ignored (RFC 9112 section 7.1.1).

    Stricter than `int(.., 16)`, which would take signs, underscores and blanks.
    """
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not digits or len(digits) > 16 or not _HEX.issuperset(digits):
        raise FramingError(f"chunk size {line[:32]!r} is not a hexadecimal number")
    return int(digits, 16)


class ChunkedReader:
    """Takes chunked bytes in any cut and gives the payload. `done` after the last chunk and its trailers."""

    __slots__ = ("_crlf", "_line", "_need", "_trailers", "done", "excess")

    def __init__(self) -> None:
        self._need = 0
        """Payload bytes of the current chunk still to come."""
        self._crlf = False
        """The CRLF behind a chunk's payload is due."""
        self._line = b""
        """Begin of a size or trailer line that the last read cut."""
        self._trailers = -1
        """Bytes of trailers seen, -1 before the last chunk."""
        self.done = False
        self.excess = b""
        """What followed the end of the body."""

    @property
    def at_boundary(self) -> bool:
        """Nothing of a chunk is pending: the next byte starts a chunk header."""
        return not (self._need or self._crlf or self._line or self._trailers >= 0)

    def feed(self, data: bytes) -> bytes:
        """Payload bytes in `data`. Raises FramingError; the connection is unusable then."""
        payload: list[bytes] = []
        position, size = 0, len(data)
        while position < size and not self.done:
            if self._need:
                piece = data[position : position + self._need]
                payload.append(piece)
                position += len(piece)
                self._need -= len(piece)
                self._crlf = self._need == 0
                continue
            end = data.find(b"\n", position)
            if end < 0:
                self._line += data[position:]
                position = size
                if len(self._line) > (_LONGEST_SIZE_LINE if self._trailers < 0 else _LONGEST_TRAILER):
                    raise FramingError("a chunk header line is too long")
                break
            line = self._line + data[position : end + 1]
            self._line = b""
            position = end + 1
            if not line.endswith(b"\r\n"):
                raise FramingError("a chunk line ends in a bare LF")
            self._take_line(line[:-2])
        if self.done:
            self.excess += data[position:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _take_line(self, line: bytes) -> None:
        if self._crlf:
            if line:
                raise FramingError("a chunk is longer than its size says")
            self._crlf = False
        elif self._trailers >= 0:
            self._trailers += len(line)
            if self._trailers > _LONGEST_TRAILER:
                raise FramingError("trailers are too long")
            self.done = not line
        else:
            self._need = parse_chunk_size(line)
            if self._need == 0:
                self._trailers = 0


def chunk(payload: bytes) -> bytes:
    """`payload` as one chunk; empty for an empty payload, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""
