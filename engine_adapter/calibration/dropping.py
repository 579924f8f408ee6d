"""What dropping tokens does to a model's answers, in process, where attention can leave tokens out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from cache.codecs import droppers
from engine_adapter.calibration.bench import Tally, compare
from engine_adapter.calibration.contexts import Context
from engine_adapter.calibration.kv import exact_kv
from engine_adapter.demo.generate import continuation_scores
from engine_adapter.demo.model import LayerCache, Llama

WINDOW = 32
"""Last queries that SnapKV looks at."""

Select = Callable[[droppers.F32, int, droppers.F32], droppers.Kept]
"""Keys of a layer, how many tokens to keep, last queries."""

DROPPERS: dict[str, Select] = {
    "streamingllm": lambda keys, number, queries: droppers.streamingllm(keys, number),
    "knorm": lambda keys, number, queries: droppers.knorm(keys, number),
    "keydiff": lambda keys, number, queries: droppers.keydiff(keys, number),
    "snapkv": lambda keys, number, queries: droppers.snapkv(keys, number, queries=queries),
}


def measure(
    model: Llama, contexts: Iterable[Context], shares: tuple[float, ...], *, seen: Callable[[int], None]
) -> list[Tally]:
    """Every dropper at every share of kept tokens; task accuracy is not measured."""
    tallies = {(name, share): Tally(f"{name}, {share:.0%} kept") for name in DROPPERS for share in shares}
    for number, context in enumerate(contexts):
        with _last_queries(model, len(context.prompt) - 1) as queries:
            kv = exact_kv(model, context.prompt[:-1])
        full = continuation_scores(model, context.prompt, context.continuation, kv)
        for (name, share), tally in tallies.items():
            past = [
                _dropped(layer, share, DROPPERS[name], asked, tally)
                for layer, asked in zip(kv, queries, strict=True)
            ]
            compare(tally, context, full, _scores(model, context, past))
            tally.contexts += 1
        seen(number + 1)
    return list(tallies.values())


def _dropped(
    layer: LayerCache, share: float, select: Select, queries: droppers.F32, tally: Tally
) -> LayerCache:
    keys, values = layer
    _, heads, tokens, dim = keys.shape
    kept = select(keys[0].numpy(), max(1, round(share * tokens)), queries)
    places = torch.from_numpy(kept)[None, :, :, None].expand(-1, -1, -1, dim)
    size = droppers.dropped_bytes(kept, tokens, dim, 2)
    tally.payload_bytes += size
    tally.frame_bytes += size
    tally.elements += 2 * heads * tokens * dim
    return keys.gather(2, places), values.gather(2, places)


def _scores(model: Llama, context: Context, past: list[LayerCache]) -> torch.Tensor:
    fed = [context.prompt[-1], *context.continuation[:-1]]
    first = len(context.prompt) - 1
    places = torch.arange(first, first + len(fed))[None]
    with torch.inference_mode():
        hidden, _ = model.hidden(torch.tensor([fed]), positions=places, past=past)
        return model.logits(hidden[0]).float().log_softmax(-1)


@contextmanager
def _last_queries(model: Llama, tokens: int) -> Iterator[list[droppers.F32]]:
    """Fills a list with the rotated queries of the last tokens, layer by layer, averaged over each group."""
    shape, found = model.shape, []
    heads, groups, dim = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
    begin = max(0, tokens - WINDOW)
    cosine, sine = model.cos[begin:tokens], model.sin[begin:tokens]

    def keep(module: object, inputs: object, packed: torch.Tensor) -> None:
        asked = packed[0, begin:, : heads * dim].reshape(-1, heads, dim).transpose(0, 1)
        turned = asked * cosine + torch.cat([-asked[..., dim // 2 :], asked[..., : dim // 2]], dim=-1) * sine
        mean = turned.reshape(groups, heads // groups, -1, dim).mean(dim=1)
        found.append(np.ascontiguousarray(mean.numpy()))

    hooks = [layer.qkv.register_forward_hook(keep) for layer in model.layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
