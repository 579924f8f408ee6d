"""Which tokens to keep when KV is made smaller by dropping tokens. Selection only; positions stay explicit.

These are not registered codecs. A codec fills every position of a paged cache, and no key makes an attention
kernel skip its token: a zero key still gets the weight exp(0), and a large one repels some queries and
attracts others. Dropping needs an engine that attends to the kept positions only, so it is measured in
process (`engine_adapter.calibration.dropping`) and compared with the codecs at equal bytes.

All functions take keys `[heads, tokens, dim]` of one layer, as cached, and return the kept tokens of every
head in ascending order, `[heads, number]`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Kept = npt.NDArray[np.intp]

SINKS = 4
"""First tokens that StreamingLLM keeps."""


def streamingllm(keys: F32, number: int, *, sinks: int = SINKS) -> Kept:
    """The first few tokens and the most recent ones (2309.17453)."""
    heads, tokens, _ = keys.shape
    number = min(number, tokens)
    first = min(sinks, number)
    kept = np.concatenate([np.arange(first), np.arange(tokens - (number - first), tokens)])
    return np.repeat(kept[None], heads, axis=0)


def knorm(keys: F32, number: int) -> Kept:
    """Tokens whose keys are short: they draw most attention (2406.11430)."""
    return _least(np.linalg.norm(keys, axis=-1), number)


def keydiff(keys: F32, number: int) -> Kept:
    """Tokens whose keys are least like the mean direction of all keys (2504.15364)."""
    directions = keys / np.maximum(np.linalg.norm(keys, axis=-1, keepdims=True), 1e-12)
    mean = directions.mean(axis=1, keepdims=True)
    return _least((directions * mean).sum(axis=-1), number)


def snapkv(keys: F32, number: int, *, queries: F32, pool: int = 7) -> Kept:
    """Tokens that the last queries of the prompt attend to, neighbours pooled, and those last tokens
    (2404.14469). `queries` are `[heads, window, dim]`, rotated; the mean of heads that share a key head."""
    heads, tokens, dim = keys.shape
    window = min(queries.shape[1], tokens, number)
    scores = queries[:, -window:] @ keys.swapaxes(1, 2) / np.sqrt(np.float32(dim))
    ahead = np.arange(tokens)[None] > np.arange(tokens - window, tokens)[:, None]
    scores = np.where(ahead, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    votes = (weights / weights.sum(axis=-1, keepdims=True)).sum(axis=1)
    padded = np.pad(votes, ((0, 0), (pool // 2, pool // 2)))
    pooled = np.lib.stride_tricks.sliding_window_view(padded, pool, axis=1).max(axis=-1)
    pooled[:, tokens - window :] = np.inf
    return _least(-pooled, number)


def dropped_bytes(kept: Kept, tokens: int, dim: int, element_bytes: int) -> int:
    """Bytes of a layer: kept keys and values, and a bit per token and head that says which they are."""
    heads, number = kept.shape
    return int(heads * (2 * number * dim * element_bytes + (tokens + 7) // 8))


def _least(scores: F32, number: int) -> Kept:
    number = min(number, scores.shape[1])
    chosen: Kept = np.sort(np.argpartition(scores, number - 1, axis=1)[:, :number], axis=1)
    return chosen
