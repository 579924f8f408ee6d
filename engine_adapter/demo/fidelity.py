"""How much an answer changes when the KV of a text is obtained in another way than by full prefill.

A *KV source* is any function from a model and the tokens of a prompt to the KV of all layers. Full prefill
is the reference; a codec round trip, a blend of cached documents or the cache of a sibling model are
others. Both KVs serve the same teacher-forced continuation, so every difference is the source's doing.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine_adapter.demo.model import LayerCache, Llama

    KVSource = Callable[[Llama, Sequence[int]], list[LayerCache]]
    """Maps a model and prompt tokens to the KV of exactly those tokens, layer by layer."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Means over all teacher-forced tokens; natural logarithms.

    `nll_full` and `nll_other` score the true continuation, `kl` is KL(full || other) of the next-token
    distributions, `agreement` the share of tokens where both most likely tokens are the same.
    """

    tokens: int
    nll_full: float
    nll_other: float
    kl: float
    agreement: float

    def record(self) -> dict[str, float | int]:
        """JSON-able values."""
        return {name: round(getattr(self, name), 6) for name in self.__slots__}


def source(path: str) -> KVSource:
    """Import a KV source named as `package.module:function`."""
    module, _, name = path.partition(":")
    if not name:
        raise ValueError(f"a KV source is named package.module:function, not {path!r}")
    found: KVSource = getattr(importlib.import_module(module), name)
    return found


def compare(
    model: Llama, other: KVSource, examples: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Fidelity:
    """Compare a KV source with full prefill on (prompt, continuation) pairs of token ids.

    The last prompt token is always run by the model itself, since something must produce the first
    distribution.
    """
    from engine_adapter.demo.generate import continuation_scores, prefill

    tokens, nll_full, nll_other, divergence, same = 0, 0.0, 0.0, 0.0, 0
    for prompt, continuation in examples:
        full = continuation_scores(model, prompt, continuation, prefill(model, prompt[:-1]))
        changed = continuation_scores(model, prompt, continuation, other(model, prompt[:-1]))
        rows = range(len(continuation))
        nll_full -= float(full[rows, list(continuation)].sum())
        nll_other -= float(changed[rows, list(continuation)].sum())
        divergence += float((full.exp() * (full - changed)).sum())
        same += int((full.argmax(-1) == changed.argmax(-1)).sum())
        tokens += len(continuation)
    if not tokens:
        return Fidelity(0, math.nan, math.nan, math.nan, math.nan)
    return Fidelity(tokens, nll_full / tokens, nll_other / tokens, divergence / tokens, same / tokens)


def perplexity(model: Llama, examples: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
    """Exponential of the mean negative log-likelihood of the continuations after full prefill."""
    from engine_adapter.demo.generate import continuation_scores, prefill

    total, tokens = 0.0, 0
    for prompt, continuation in examples:
        scores = continuation_scores(model, prompt, continuation, prefill(model, prompt[:-1]))
        total -= float(scores[range(len(continuation)), list(continuation)].sum())
        tokens += len(continuation)
    return math.exp(total / tokens) if tokens else math.nan


def foreseen(
    model: Llama, draft: Llama, prompts: Sequence[Sequence[int]], *, end: int, limit: int = 64
) -> tuple[int, int]:
    """How many tokens of a model's greedy replies a draft model ranks first, and of how many.

    This is the acceptance rate of the first proposed token in greedy speculative decoding.
    """
    from engine_adapter.demo.generate import continuation_scores, greedy, prefill

    right, of = 0, 0
    for prompt in prompts:
        reply = list(greedy(model, prompt, end=end, limit=limit))
        if len(reply) < limit:
            reply.append(end)
        guesses = continuation_scores(draft, prompt, reply, prefill(draft, prompt[:-1])).argmax(-1)
        right += sum(int(guess) == token for guess, token in zip(guesses, reply, strict=True))
        of += len(reply)
    return right, of
