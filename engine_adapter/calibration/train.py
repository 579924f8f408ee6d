"""Statistics of a model's KV, and what its output owes to every direction of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cache.calibration.fit import fit_cachegen, fit_weir
from cache.calibration.statistics import LayerStatistics
from cache.calibration.tables import Tables
from engine_adapter.calibration.contexts import Context
from engine_adapter.calibration.kv import exact_kv, inverse_frequencies, rows_of
from engine_adapter.demo.model import LayerCache, Llama
from engine_adapter.vllm.weights import fingerprint

DRAWS = 4
"""Gradients per context."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """One set with RoPE undone and gradients, one of the keys as they are cached."""

    undone: list[LayerStatistics]
    cached: list[LayerStatistics]


def gather(
    model: Llama, contexts: Iterable[Context], *, seed: int = 0, seen: Callable[[int], None]
) -> Statistics:
    """Run the model over contexts; `seen` hears how many are done.

    Fisher information needs the gradients of log-likelihoods of tokens that the model itself would say. The
    tokens of a continuation are drawn independently and their gradients added with random signs, whose
    products vanish in the mean, so a draw costs one backward pass however long the continuation is.
    """
    shape, generator = model.shape, torch.Generator().manual_seed(seed)
    channels = 2 * shape.num_key_value_heads * shape.head_dim
    undone = [LayerStatistics(channels) for _ in range(shape.num_hidden_layers)]
    cached = [LayerStatistics(channels) for _ in range(shape.num_hidden_layers)]
    for number, context in enumerate(contexts):
        kv = exact_kv(model, context.prompt[:-1])
        gradients = _gradients(model, context, kv, generator)
        tokens = len(context.prompt) - 1
        turns = (model.cos[:tokens], model.sin[:tokens])
        for layer, (keys, values) in enumerate(kv):
            drawn = rows_of(gradients[2 * layer], gradients[2 * layer + 1], turns)
            undone[layer].add(rows_of(keys[0], values[0], turns), drawn)
            cached[layer].add(rows_of(keys[0], values[0], None))
        seen(number + 1)
    return Statistics(undone, cached)


def tables_for(model: Llama, folder: Path, statistics: Statistics) -> tuple[Tables, Tables]:
    """Tables of `weir` and of `cachegen` for the model in a folder."""
    weights = fingerprint(folder).hex()[:32]
    heads, dim = model.shape.num_key_value_heads, model.shape.head_dim
    weir = fit_weir(
        statistics.undone,
        weights=weights,
        heads=heads,
        dim=dim,
        inverse_frequencies=inverse_frequencies(model),
    )
    # The paper's codec sees keys as they are cached.
    cachegen = fit_cachegen(
        statistics.cached, weights=weights, heads=heads, dim=dim, inverse_frequencies=np.zeros(0)
    )
    return weir, cachegen


def _gradients(
    model: Llama, context: Context, kv: list[LayerCache], generator: torch.Generator
) -> list[torch.Tensor]:
    """Per layer keys and values, each `[draws, heads, tokens, dim]`."""
    leaves = [(k.clone().requires_grad_(), v.clone().requires_grad_()) for k, v in kv]
    flat = [tensor for pair in leaves for tensor in pair]
    fed = torch.tensor([[context.prompt[-1], *context.continuation[:-1]]])
    hidden, _ = model.hidden(fed, past=leaves)
    scores = model.logits(hidden[0]).log_softmax(-1)
    drawn = []
    for _ in range(DRAWS):
        said = torch.multinomial(scores.detach().exp(), 1, generator=generator)
        signs = torch.randint(0, 2, (len(said), 1), generator=generator) * 2.0 - 1
        drawn.append(torch.autograd.grad((scores.gather(1, said) * signs).sum(), flat, retain_graph=True))
    return [torch.stack([draw[i][0] for draw in drawn]) for i in range(len(flat))]
