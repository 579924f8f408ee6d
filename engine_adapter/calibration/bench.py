"""What a codec costs and what it does to a model's answers, over many contexts, with every byte counted.

A context is prefilled once. For every codec its whole chunks are encoded and decoded again, straight in the
engine's page format; tokens behind the last whole chunk are kept, as an engine would recompute them. Both KVs
then serve the same teacher-forced continuation and the same greedy reply. Tokens that a codec leaves out are
left out of attention too, which plain PyTorch can do and a paged engine cannot; all others keep their
positions.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from cache.calibration.quality import Measured
from cache.codecs.codec import Codec
from cache.codecs.dropped import Dropped, Marks
from cache.codecs.droppers import WINDOW
from cache.frame import Header, encode_head
from cache.keys import KEY_BYTES, ChunkKey
from cache.layout import KVLayout
from engine_adapter.calibration.contexts import Context
from engine_adapter.calibration.kv import exact_kv, from_view, layout_of, to_view
from engine_adapter.calibration.queries import Queries, watched
from engine_adapter.demo.generate import continuation_scores, greedy
from engine_adapter.demo.model import LayerCache, Llama

REPLY_LIMIT = 160


@dataclass(slots=True)
class Tally:
    """Sums over contexts for one codec."""

    label: str
    contexts: int = 0
    elements: int = 0
    payload_bytes: int = 0
    frame_bytes: int = 0
    tokens: int = 0
    divergence: float = 0.0
    nll_full: float = 0.0
    nll: float = 0.0
    same: int = 0
    right_full: int = 0
    right: int = 0
    asked: int = 0
    worse: int = 0
    better: int = 0
    divergences: list[float] = field(default_factory=list)

    def measured(self, chunk_tokens: int) -> Measured:
        """Means of everything so far."""
        return Measured(
            codec=self.label,
            contexts=self.contexts,
            chunk_tokens=chunk_tokens,
            bits_per_element=8 * self.payload_bytes / self.elements,
            framed_bits_per_element=8 * self.frame_bytes / self.elements,
            kl=self.divergence / self.tokens,
            kl_worst_context=max(self.divergences),
            kl_median=statistics.median(self.divergences),
            nll_difference=(self.nll - self.nll_full) / self.tokens,
            top1=self.same / self.tokens,
            accuracy_full=self.right_full / self.asked if self.asked else None,
            accuracy=self.right / self.asked if self.asked else None,
            worse=self.worse,
            better=self.better,
        )


def measure(
    model: Llama,
    codecs: Sequence[tuple[str, Codec]],
    contexts: Iterable[Context],
    *,
    end: int,
    decode_text: Callable[[list[int]], str],
    chunk_tokens: int,
    seen: Callable[[int], None],
) -> list[Measured]:
    """Every codec on every context, in chunks of `chunk_tokens` or, if that is 0, all whole blocks as one
    chunk; `seen` hears how many contexts are done."""
    layout = layout_of(model)
    tallies = [Tally(label) for label, _ in codecs]
    for number, context in enumerate(contexts):
        with watched(model) as queries:
            kv = exact_kv(model, context.prompt[:-1])
        full = continuation_scores(model, context.prompt, context.continuation, kv)
        reply = _greedy(model, context, kv, end) if context.question is not None else []
        for tally, (_, codec) in zip(tallies, codecs, strict=True):
            changed = _round_trip(layout, kv, queries, codec, chunk_tokens, tally)
            same = _equal(kv, changed)
            other = full
            if not same:
                other = continuation_scores(model, context.prompt, context.continuation, changed)
            _compare(tally, context, full, other)
            if context.question is not None:
                right = context.question.score(decode_text(reply))
                said = reply if same else _verified(model, context, changed, end, reply)
                again = context.question.score(decode_text(said))
                tally.asked += 1
                tally.right_full += right
                tally.right += again
                tally.worse += right and not again
                tally.better += again and not right
            tally.contexts += 1
        seen(number + 1)
    return [tally.measured(chunk_tokens) for tally in tallies]


def _round_trip(
    layout: KVLayout,
    kv: Sequence[LayerCache],
    queries: Queries,
    codec: Codec,
    chunk_tokens: int,
    tally: Tally,
) -> list[LayerCache]:
    changed = [(k.clone(), v.clone()) for k, v in kv]
    tokens = kv[0][0].shape[2]
    blocks = (chunk_tokens or tokens) // layout.block_tokens
    size = blocks * layout.block_tokens
    held = np.ones((layout.layers, layout.kv_heads, tokens), np.bool_)
    for first in range(0, tokens - size + 1, size):
        end = first + size
        view = to_view(layout, kv, first, blocks)
        view = replace(view, queries=[asked[:, max(first, end - WINDOW) : end] for asked in queries])
        out = np.empty(codec.bound(layout, blocks), np.uint8)
        taken = codec.encode(view, out)
        for page in view.pages:
            page.fill(0)
        codec.decode(out[:taken], view)
        from_view(view, changed)
        if isinstance(codec, Dropped):
            held[:, :, first:end] = codec.present(out[:taken], layout, blocks)
        tally.payload_bytes += taken
        tally.frame_bytes += taken + _head_bytes(layout, codec, blocks, first, taken)
        tally.elements += blocks * layout.layers * layout.page_elements
    return changed if codec.keeps_every_token else _without_holes(changed, held)


def _equal(one: Sequence[LayerCache], two: Sequence[LayerCache]) -> bool:
    """Whether two KVs are the same numbers, so that the model need not be asked again."""
    return all(torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))


def _without_holes(kv: Sequence[LayerCache], held: Marks) -> list[LayerCache]:
    """The tokens that are there, as many for every head."""
    made = []
    for (keys, values), marks in zip(kv, held, strict=True):
        places = torch.from_numpy(np.nonzero(marks)[1].reshape(1, len(marks), -1, 1))
        places = places.expand(-1, -1, -1, keys.shape[-1])
        made.append((keys.gather(2, places), values.gather(2, places)))
    return made


def _head_bytes(layout: KVLayout, codec: Codec, blocks: int, position: int, payload: int) -> int:
    header = Header(
        key=ChunkKey(bytes(KEY_BYTES)),
        layout=layout.fingerprint(),
        blocks=blocks,
        position=position,
        codec=codec.name,
        config=codec.config(),
        payload_bytes=payload,
        digest=bytes(16),
        written=0,
        expires=0,
    )
    return len(encode_head(header))


def _compare(tally: Tally, context: Context, full: torch.Tensor, other: torch.Tensor) -> None:
    """Add the difference of two teacher-forced continuations to a tally."""
    places = list(range(len(context.continuation)))
    divergence = float((full.exp() * (full - other)).sum())
    tally.divergence += divergence
    tally.divergences.append(divergence / len(places))
    tally.nll_full -= float(full[places, list(context.continuation)].sum())
    tally.nll -= float(other[places, list(context.continuation)].sum())
    tally.same += int((full.argmax(-1) == other.argmax(-1)).sum())
    tally.tokens += len(places)


def _greedy(model: Llama, context: Context, kv: list[LayerCache], end: int) -> list[int]:
    covered = len(context.prompt) - 1
    return greedy(model, context.prompt, end=end, limit=REPLY_LIMIT, past=kv, covered=covered)


def _verified(model: Llama, context: Context, kv: list[LayerCache], end: int, draft: list[int]) -> list[int]:
    """The greedy reply on `kv`: where it agrees with a draft, one pass over the draft finds that out."""
    guess = [*draft, end]
    said = continuation_scores(model, context.prompt, guess, kv).argmax(-1).tolist()
    agreed = next((i for i, token in enumerate(said) if token != guess[i]), None)
    if agreed is None or (agreed == len(draft) and len(draft) == REPLY_LIMIT):
        return draft
    return _greedy(model, context, kv, end)
