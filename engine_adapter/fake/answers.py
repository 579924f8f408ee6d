"""What the fake model says: text that the prompt, the seed and the sampling fields determine."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine_adapter.fake.json_instance import instance_of
from engine_adapter.fake.tokens import Prompt, Vocabulary, piece_id


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends."""

    natural: int
    """Tokens after which the model stops by itself."""
    max_tokens: int
    """Tokens after which it is stopped."""
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    include_stop: bool = False

    def length(self) -> tuple[int, str]:
        """Number of tokens, and the finish reason, of an answer no stop string ends."""
        wanted = self.max_tokens if self.ignore_eos else max(self.natural, self.min_tokens)
        return (wanted, "stop") if wanted < self.max_tokens else (self.max_tokens, "length")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the answer calls; its arguments are the answer's pieces."""

    id: str
    name: str


@dataclass(slots=True)
class Answer:
    """One choice: the text as the pieces its tokens add, and how it ended."""

    tokens: list[str]
    """What the model generated, one piece per token."""
    deltas: list[str]
    """What each token adds to the visible text: the same, except where a stop string cuts."""
    finish_reason: str
    stop_reason: str | None = None
    tool: ToolCall | None = None

    @property
    def text(self) -> str:
        """The visible text, or a tool call's arguments."""
        return "".join(self.deltas)

    def token_ids(self) -> list[int]:
        """Ids of the generated tokens."""
        return [piece_id(piece) for piece in self.tokens]

    def logprob(self, index: int) -> float:
        """Log-probability of token `index`: made up, between -1 and 0, always the same."""
        return -(piece_id(self.tokens[index]) % 997) / 997

    def top_logprobs(self, index: int, count: int) -> list[tuple[str, float]]:
        """The `count` likeliest tokens at `index`: the chosen one, then made-up rivals, ever less likely."""
        first = self.logprob(index)
        rivals = ((f"alt{rank}", first - rank) for rank in range(1, count))
        return [(self.tokens[index], first), *rivals][:count]


def answer_key(prompt: Prompt, seed: int, choice: int) -> bytes:
    """What determines the words of one choice."""
    return prompt.digest() + f"/{seed}/{choice}".encode()


def text_answer(vocabulary: Vocabulary, key: bytes, limits: Limits) -> Answer:
    """An answer in the vocabulary's words."""
    count, reason = limits.length()
    tokens = vocabulary.draw(key, count)
    if limits.stop:
        return _stopped(tokens, limits, reason)
    return Answer(tokens, tokens, reason)


def _stopped(tokens: list[str], limits: Limits, reason: str) -> Answer:
    """Cut at the first stop string, the earliest to be complete."""
    text = "".join(tokens)
    matches = [(text.find(stop) + len(stop), stop) for stop in limits.stop if stop and stop in text]
    if not matches:
        return Answer(tokens, tokens, reason)
    end, stop = min(matches)
    visible = end if limits.include_stop else end - len(stop)
    deltas: list[str] = []
    position = 0
    for token in tokens:
        if position >= end:
            break
        deltas.append(text[position : max(position, min(position + len(token), visible))])
        position += len(token)
    return Answer(tokens[: len(deltas)], deltas, "stop", stop)


def fixed_answer(text: str, limits: Limits, tool: ToolCall | None = None) -> Answer:
    """An answer with a given text, cut at `max_tokens` only."""
    pieces = list(cut(text)) or [""]
    if len(pieces) > limits.max_tokens:
        pieces = pieces[: limits.max_tokens]
        return Answer(pieces, pieces, "length", tool=tool)
    return Answer(pieces, pieces, "stop", tool=tool)


def json_answer(
    schema: Any, vocabulary: Vocabulary, key: bytes, limits: Limits, tool: ToolCall | None = None
) -> Answer:
    """An answer that is an instance of `schema`.

    Raises SchemaError if the schema is beyond the generator.
    """
    instance = instance_of(schema, _words(vocabulary, key))
    return fixed_answer(json.dumps(instance, separators=(", ", ": ")), limits, tool)


def _words(vocabulary: Vocabulary, key: bytes) -> Iterator[str]:
    return (piece.strip() or "x" for piece in itertools.cycle(vocabulary.draw(key, 64)))


def cut(text: str) -> Iterator[str]:
    """Pieces of at most four UTF-8 bytes, never cutting a character."""
    if text.isascii():
        yield from (text[start : start + 4] for start in range(0, len(text), 4))
        return
    piece, size = "", 0
    for character in text:
        width = len(character.encode())
        if size + width > 4:
            yield piece
            piece, size = "", 0
        piece += character
        size += width
    if piece:
        yield piece


def steps(answers: Sequence[Answer]) -> int:
    """Engine steps until the longest of the choices is complete."""
    return max(len(answer.tokens) for answer in answers)
