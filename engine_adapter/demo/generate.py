"""Greedy decoding in process, one sequence at a time, with a KV cache that the caller may supply."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine_adapter.demo.model import LayerCache, Llama


def prefill(model: Llama, tokens: Sequence[int]) -> list[LayerCache]:
    """The KV of a prompt, computed in full."""
    with torch.inference_mode():
        return model.hidden(torch.tensor([list(tokens)]))[1]


def greedy(
    model: Llama,
    prompt: Sequence[int],
    *,
    end: int,
    limit: int,
    past: list[LayerCache] | None = None,
    covered: int | None = None,
) -> list[int]:
    """Most likely continuation of a prompt up to the `end` token (left out) or `limit` tokens.

    `past` is the KV of the prompt's first `covered` tokens, obtained by whatever means; it may lack some of
    them (default: none). `covered` must be less than the prompt.
    """
    known = covered if covered is not None else past[0][0].shape[2] if past else 0
    if known >= len(prompt):
        raise ValueError(
            f"the given KV covers {known} tokens; the prompt has {len(prompt)}, leave at least one to run"
        )
    room = model.shape.max_position_embeddings - len(prompt)
    feed, places = torch.tensor([list(prompt[known:])]), torch.arange(known, len(prompt))[None]
    out: list[int] = []
    with torch.inference_mode():
        while len(out) < min(limit, room):
            hidden, past = model.hidden(feed, positions=places, past=past)
            token = int(model.logits(hidden[0, -1]).argmax())
            if token == end:
                break
            out.append(token)
            feed, places = torch.tensor([[token]]), places[:, -1:] + 1
    return out


def continuation_scores(
    model: Llama, prompt: Sequence[int], continuation: Sequence[int], past: list[LayerCache]
) -> Tensor:
    """Log-probabilities `[len(continuation), vocabulary]` before each token of a continuation,
    teacher-forced.

    `past` is the KV of the prompt without its last token; it may lack some of the others.
    """
    fed = [prompt[-1], *continuation[:-1]]
    places = torch.arange(len(prompt) - 1, len(prompt) - 1 + len(fed))[None]
    with torch.inference_mode():
        hidden, _ = model.hidden(torch.tensor([fed]), positions=places, past=past)
        return model.logits(hidden[0]).float().log_softmax(-1)
