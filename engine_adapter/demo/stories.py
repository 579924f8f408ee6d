"""Texts to be continued: what perplexity and KV fidelity are measured on."""

from __future__ import annotations

import random

from tokenizers import Tokenizer

from engine_adapter.demo.bench import sized_reading
from engine_adapter.demo.chat import Segment, render
from engine_adapter.demo.rows import Mix
from engine_adapter.demo.tasks import TASKS, ask


def examples(
    tokenizer: Tokenizer, *, number: int, length: int, seed: int = 0, split: str = "seen"
) -> list[tuple[list[int], list[int]]]:
    """(prompt, continuation) token ids: a document of about `length` tokens with questions, and their right
    answers.

    The answers have to be read in the document, so a KV that lost something shows.
    """

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    made = []
    for index in range(number):
        rng = random.Random(f"fidelity:{seed}:{length}:{index}")
        reading = sized_reading(rng, length, count, Mix({}, split=split))
        question = ask(rng, reading, "one_hop") or ask(rng, reading, rng.choice(tuple(TASKS)))
        if question is None:
            continue
        segments = [Segment("document", document.text) for document in reading.documents]
        segments.append(Segment("user", question.text))
        prompt = tokenizer.encode(render(segments, generation_prompt=True), add_special_tokens=False).ids
        made.append((prompt, tokenizer.encode(question.answer, add_special_tokens=False).ids))
    return made


def continuations(
    tokenizer: Tokenizer, *, number: int, length: int, seed: int = 0, share: float = 0.5
) -> list[tuple[list[int], list[int]]]:
    """(prompt, continuation) token ids of documents cut in two, for the perplexity of story continuation."""

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    made = []
    for index in range(number):
        rng = random.Random(f"story:{seed}:{length}:{index}")
        reading = sized_reading(rng, length, count, Mix({}))
        text = render([Segment("document", reading.documents[0].text)]).removesuffix("<|end|>")
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        cut = int(len(ids) * share)
        made.append((ids[:cut], ids[cut:]))
    return made
