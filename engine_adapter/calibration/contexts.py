"""Texts for calibration and measurement: questions about made-up worlds, or the user's own text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from engine_adapter.demo.bench import cases
from engine_adapter.demo.chat import END, render
from engine_adapter.demo.tasks import Question

CALIBRATION_SEED, BENCH_SEED = 910_000, 730_000
"""Far apart, so that no world is in both."""
TASKS = (
    "one_hop",
    "two_hop",
    "brief",
    "inverse",
    "follow_up",
    "latest",
    "json",
    "quote",
    "not_stated",
    "summary",
)
_CONTINUATION_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt, its right continuation, and how to score a reply where there is a question."""

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]
    question: Question | None = None


def worlds(
    tokenizer: Tokenizer, number: int, lengths: Sequence[int], seed: int, tasks: Sequence[str] = TASKS
) -> Iterator[Context]:
    """`number` questions about fresh worlds, lengths and tasks in turn."""

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    for index in range(number):
        task, length = tasks[index % len(tasks)], lengths[index % len(lengths)]
        (case,) = cases(task, length, 1, lambda text: len(encode(text)), seed=seed + index)
        prompt = encode(render(case.prompt(), generation_prompt=True))
        yield Context(prompt, encode(case.question.answer + END), case.question)


def texts(
    tokenizer: Tokenizer, files: Sequence[Path], number: int, length: int, seed: int
) -> Iterator[Context]:
    """`number` windows of about `length` tokens from text files; each ends with what is to be predicted.

    Raises ValueError if the files hold too little text.
    """
    ids: list[int] = []
    for file in files:
        ids += tokenizer.encode(file.read_text(errors="replace"), add_special_tokens=True).ids
    window = min(length, len(ids))
    if window < 2 * _CONTINUATION_TOKENS:
        raise ValueError(f"{len(ids)} tokens of text are too few to calibrate on; give more or longer files")
    rng = random.Random(seed)
    for _ in range(number):
        begin = rng.randrange(len(ids) - window + 1)
        cut = tuple(ids[begin : begin + window])
        # Contexts begin as the model's usually do: the tables treat position 0 on its own.
        yield Context((ids[0], *cut[1:-_CONTINUATION_TOKENS]), cut[-_CONTINUATION_TOKENS:])
