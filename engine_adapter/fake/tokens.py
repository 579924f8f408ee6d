"""The fake engine's tokenizer: one token is four bytes of UTF-8.

A text is encoded as UTF-8 and cut every four bytes; the last piece is filled with NULs. A token's id is its
four bytes read as a big-endian integer. So the count is known from the length alone, ids decode back to the
text, and equal prefixes have equal tokens. `/tokenize`, usage figures and KV blocks all use it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

BYTES_PER_TOKEN = 4
MAX_TOKEN_ID = 2**63 - 1
"""Largest id that `/detokenize` and token prompts accept, vLLM's own bound."""

_TEXT_TOKEN_LIMIT = 1 << 32


def pad(text: bytes) -> bytes:
    """Fill `text` with NULs to a whole number of tokens."""
    excess = len(text) % BYTES_PER_TOKEN
    return text + bytes(BYTES_PER_TOKEN - excess) if excess else text


def decode(ids: Iterable[int]) -> str:
    """The text that token `ids` stand for; ids that no text has (over 32 bits) are left out."""
    packed = b"".join(i.to_bytes(BYTES_PER_TOKEN, "big") for i in ids if i < _TEXT_TOKEN_LIMIT)
    return packed.replace(b"\0", b"").decode("utf-8", "replace")


def piece_id(piece: str) -> int:
    """Token id of one piece of at most four UTF-8 bytes."""
    return int.from_bytes(pad(piece.encode()), "big")


class Prompt:
    """The tokens of one prompt, kept as packed bytes until somebody needs integers."""

    __slots__ = ("_ids", "_packed", "count")

    def __init__(self, packed: bytes | None, ids: tuple[int, ...] | None) -> None:
        self._packed = packed
        self._ids = ids
        self.count: int = len(packed) // BYTES_PER_TOKEN if packed is not None else len(ids or ())

    @classmethod
    def from_text(cls, text: str) -> Prompt:
        """Tokenize a text."""
        return cls(pad(text.encode("utf-8", "replace")), None)

    @classmethod
    def from_packed(cls, packed: bytes) -> Prompt:
        """Take whole tokens, four bytes each, as a chat template produces them."""
        return cls(packed, None)

    @classmethod
    def from_ids(cls, ids: Sequence[int]) -> Prompt:
        """Take token ids as a client sent them."""
        return cls(None, tuple(ids))

    @property
    def packed(self) -> bytes | None:
        """The four-byte pieces if the prompt was text, None if it came as ids."""
        return self._packed

    def ids(self) -> tuple[int, ...]:
        """Token ids, decoded on first use."""
        if self._ids is None:
            self._ids = struct.unpack(f">{self.count}I", self._packed or b"")
        return self._ids

    def text(self) -> str:
        """The prompt as text."""
        if self._packed is None:
            return decode(self._ids or ())
        return self._packed.replace(b"\0", b"").decode("utf-8", "replace")

    def followed_by(self, pieces: Sequence[str]) -> Prompt:
        """This prompt with answer `pieces` after it: the token sequence whose KV the engine holds."""
        if self._packed is not None:
            return Prompt.from_packed(self._packed + b"".join(pad(piece.encode()) for piece in pieces))
        return Prompt.from_ids((*self.ids(), *map(piece_id, pieces)))

    def digest(self) -> bytes:
        """SHA-256 of the tokens, the seed of the answer."""
        if self._packed is not None:
            return hashlib.sha256(self._packed).digest()
        return hashlib.sha256(repr(self._ids).encode()).digest()


@dataclass(frozen=True)
class Vocabulary:
    """The 256 pieces answers are made of, each exactly one token (four bytes of UTF-8)."""

    pieces: tuple[str, ...]
    escaped: dict[str, bytes] = field(init=False, repr=False, compare=False)
    """Each piece as it stands inside a JSON string."""

    def __post_init__(self) -> None:
        if not self.pieces or 256 % len(self.pieces):
            raise ValueError(
                f"a vocabulary has 256, 128, … pieces so that bytes index it, not {len(self.pieces)}"
            )
        for piece in self.pieces:
            if len(piece.encode()) != BYTES_PER_TOKEN:
                raise ValueError(
                    f"piece {piece!r} is {len(piece.encode())} bytes of UTF-8, not {BYTES_PER_TOKEN}"
                )
        object.__setattr__(self, "pieces", self.pieces * (256 // len(self.pieces)))
        object.__setattr__(self, "escaped", {piece: json_inner(piece) for piece in self.pieces})

    def draw(self, key: bytes, count: int) -> list[str]:
        """`count` pieces that `key` alone determines; a shorter draw is a prefix of a longer one."""
        pieces = self.pieces
        return [pieces[byte] for byte in hashlib.shake_128(key).digest(count)]


def json_inner(text: str) -> bytes:
    """`text` as it stands between the quotes of a JSON string."""
    return orjson.dumps(text)[1:-1]


_THREE_LETTERS = """
the and for are but not you all any can had her was one our out day get has him his how man new now
old see two way who boy did its let put say she too use dad mom act add age ago aid aim air ant arm
art ask bad bag bar bat bay bed bee bet big bit bow box bud bug bus buy cab cap car cat cow cry cup
cut dam dew dig dim dip dog dot dry due dug ear eat egg ego elk elm end era eve eye fan far fat fed
fee few fig fin fir fit fix fly fog fox fun fur gap gas gem gum gun guy ham hat hay hen hip hit hop
hot hub hug
"""

WORDS = Vocabulary(tuple(f"{word} " for word in _THREE_LETTERS.split()))
"""Plain three-letter words: answers read like a children's book and need no escaping."""

MIXED = Vocabulary(
    (
        *("né ", "\u2028 ", "日 ", "本 ", "語\n", "😀", "🚀", "🧊"),
        *('"a" ', "\\b\\ ", "\n\n- ", "\t\t  ", "</s>", "data", ": {}", "a\r\n "),
    )
)
"""Accents, ideographs, emoji, quotes, backslashes, line ends and SSE look-alikes, to try parsers with."""
