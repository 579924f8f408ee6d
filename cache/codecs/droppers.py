"""Rules that say which tokens of a layer stay when KV is made smaller by dropping tokens.

All take keys `[heads, tokens, dim]` as cached, the last queries `[heads, window, dim]`, rotated, and how many
tokens of every head to keep; they return those tokens in ascending order, `[heads, number]`. Tokens whose
score is no number go first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Kept = npt.NDArray[np.intp]
Rule = Callable[[F32, F32, int], Kept]

SINKS = 4
"""First tokens that StreamingLLM keeps."""
WINDOW = 32
"""Last queries that SnapKV looks at."""
POOL = 7
"""Neighbours over which SnapKV takes the greatest vote."""


def streamingllm(keys: F32, queries: F32, number: int) -> Kept:
    """The first few tokens and the most recent ones (2309.17453)."""
    heads, tokens, _ = keys.shape
    number = min(number, tokens)
    first = min(SINKS, number)
    kept = np.concatenate([np.arange(first), np.arange(tokens - (number - first), tokens)])
    return np.repeat(kept[None], heads, axis=0)


def knorm(keys: F32, queries: F32, number: int) -> Kept:
    """Tokens whose keys are short: they draw most attention (2406.11430)."""
    return _least(np.linalg.norm(keys, axis=-1), number)


def keydiff(keys: F32, queries: F32, number: int) -> Kept:
    """Tokens whose keys are least like the mean direction of all keys (2504.15364)."""
    directions = keys / np.maximum(np.linalg.norm(keys, axis=-1, keepdims=True), 1e-12)
    mean = directions.mean(axis=1, keepdims=True)
    return _least((directions * mean).sum(axis=-1), number)


def snapkv(keys: F32, queries: F32, number: int) -> Kept:
    """Tokens that the last queries attend to, neighbours pooled, and those last tokens (2404.14469)."""
    _, tokens, dim = keys.shape
    window = min(queries.shape[1], tokens, number)
    scores = queries[:, -window:] @ keys.swapaxes(1, 2) / np.sqrt(np.float32(dim))
    ahead = np.arange(tokens)[None] > np.arange(tokens - window, tokens)[:, None]
    scores = np.where(ahead, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    votes = (weights / weights.sum(axis=-1, keepdims=True)).sum(axis=1)
    padded = np.pad(votes, ((0, 0), (POOL // 2, POOL // 2)))
    pooled = np.lib.stride_tricks.sliding_window_view(padded, POOL, axis=1).max(axis=-1)
    pooled[:, tokens - window :] = np.inf
    return _least(-pooled, number)


RULES: Mapping[str, Rule] = MappingProxyType(
    {"streamingllm": streamingllm, "knorm": knorm, "keydiff": keydiff, "snapkv": snapkv}
)


def _least(scores: F32, number: int) -> Kept:
    number = min(number, scores.shape[1])
    ranked = np.where(np.isnan(scores), np.inf, scores)
    chosen: Kept = np.sort(np.argpartition(ranked, number - 1, axis=1)[:, :number], axis=1)
    return chosen
