"""What every generating endpoint has in common: a request becomes prompts, answers and a rendering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine_adapter.fake.answers import Answer
from engine_adapter.fake.block_pool import NO_SCOPE, CacheScope
from engine_adapter.fake.tokens import Prompt

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asked, and when: what ids and time stamps in answers are made of."""

    request_id: str
    """`x-request-id` if the client sent one, else 32 hexadecimal digits."""
    created: int
    """Unix time in seconds."""


class Rendering(Protocol):
    """The bytes of one answer in its family's form. `cached` is the number of prompt tokens in the cache."""

    def preamble(self) -> bytes:
        """Events sent with the headers, before the engine has run."""

    def step(self, index: int, cached: int) -> bytes:
        """Events of token `index` of every choice; the first opens the answer, the last finishes it."""

    def closing(self, cached: int) -> bytes:
        """Events after the last token."""

    def body(self, cached: int) -> bytes:
        """The whole answer, when it is not streamed."""


@dataclass(slots=True)
class Generation:
    """One request, understood: what the engine has to run and how the answer is written."""

    request_id: str
    model: str
    prompts: Sequence[Prompt]
    answers: Sequence[Sequence[Answer]]
    """For each prompt its choices; empty for requests that generate nothing."""
    streaming: bool
    rendering: Rendering
    scope: CacheScope = NO_SCOPE

    @property
    def steps(self) -> int:
        """Engine steps until the longest choice is complete."""
        return max((len(answer.tokens) for choices in self.answers for answer in choices), default=0)

    @property
    def finish_reason(self) -> str:
        """How the first choice ends: `stop` or `length`."""
        return self.answers[0][0].finish_reason if self.answers else "stop"


def usage(prompt_tokens: int, completion_tokens: int, cached: int | None) -> dict[str, Any]:
    """`usage` of a chat or text completion that is not streamed; `cached` None omits the details."""
    details = None
    if cached is not None:
        details = {"cached_tokens": cached, "created_cache_tokens": None, "multimodal_tokens": None}
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": None,
    }


def final_usage(prompt_tokens: int, completion_tokens: int, cached: int | None) -> dict[str, Any]:
    """`usage` of the last event of a stream, where vLLM leaves out nulls."""
    figures: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }
    if cached is not None:
        figures["prompt_tokens_details"] = {"cached_tokens": cached}
    return figures


def token_bytes(piece: str) -> list[int]:
    """The `bytes` field of a log-probability entry."""
    return list(piece.encode())
