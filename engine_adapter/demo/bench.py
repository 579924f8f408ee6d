"""The bench: accuracy per task and context length on fresh worlds, with a control that removes the
evidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from engine_adapter.demo.chat import Segment
from engine_adapter.demo.documents import Document
from engine_adapter.demo.rows import TOKENS_PER_FACT, Mix, read
from engine_adapter.demo.scoring import parsed_json, wilson
from engine_adapter.demo.tasks import TASKS, Question, Reading, ask
from engine_adapter.demo.world import build_world

Count = Callable[[str], int]
"""Number of tokens of a text."""

Answer = Callable[[Sequence[Segment]], str]
"""Greedy reply of a model to a conversation that ends with a user's turn."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question about one fresh text; `stripped` is the text without the evidence."""

    task: str
    length: int
    question: Question
    documents: tuple[Document, ...]
    stripped: tuple[Document, ...]

    def prompt(self, *, control: bool = False) -> list[Segment]:
        """The conversation up to the question."""
        documents = self.stripped if control else self.documents
        segments = [Segment("document", document.text) for document in documents]
        if self.question.lead is not None:
            segments += [
                Segment("user", self.question.lead.text),
                Segment("assistant", self.question.lead.answer),
            ]
        return [*segments, Segment("user", self.question.text)]


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers among all, with a 95 % Wilson interval."""

    task: str
    length: int
    right: int
    of: int
    control_right: int
    control_of: int
    valid_json: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy."""
        return wilson(self.right, self.of)

    def record(self) -> dict[str, object]:
        """The score as JSON-able values."""
        low, high = self.interval
        record: dict[str, object] = {
            "task": self.task,
            "length": self.length,
            "right": self.right,
            "of": self.of,
            "accuracy": round(self.accuracy, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
        if self.control_of:
            record["without_evidence"] = round(self.control_right / self.control_of, 4)
        if self.task == "json":
            record["valid"] = round(self.valid_json / self.of, 4) if self.of else 0.0
        return record


def sized_reading(rng: random.Random, length: int, count: Count, mix: Mix) -> Reading:
    """A fresh world told in about `length` tokens, never more."""
    facts = max(4, round(length / TOKENS_PER_FACT))
    for _ in range(12):
        reading = read(rng, build_world(rng, facts), mix)
        size = sum(count(document.text) for document in reading.documents)
        if 0.85 * length <= size <= length:
            return reading
        facts = max(4, round(facts * 0.95 * length / size))
    return reading


def cases(
    task: str, length: int, number: int, count: Count, *, seed: int = 0, split: str = "seen"
) -> Iterator[Case]:
    """`number` cases of a task; a pure function of its arguments."""
    made, trial = 0, 0
    mix = Mix({task: 1.0}, split=split)
    while made < number:
        rng = random.Random(f"bench:{seed}:{split}:{task}:{length}:{trial}")
        trial += 1
        reading = sized_reading(rng, length, count, mix)
        question = ask(rng, reading, task)
        if question is None:
            if trial > 20 * number + 100:
                raise ValueError(
                    f"worlds of {length} tokens offer too few questions of task {task!r}; use longer ones"
                )
            continue
        made += 1
        yield Case(task, length, question, reading.documents, _strip(reading.documents, question))


def _strip(documents: tuple[Document, ...], question: Question) -> tuple[Document, ...]:
    for relation, subject in question.evidence:
        documents = tuple(document.without(relation, subject) for document in documents)
    return documents


def measure(made: Sequence[Case], answer: Answer, *, control: int = 0) -> Score:
    """Score a model on cases of one task and length; the first `control` of them also without their
    evidence."""
    score = Score(made[0].task, made[0].length, 0, 0, 0, 0)
    for index, case in enumerate(made):
        reply = answer(case.prompt())
        score = replace(
            score,
            right=score.right + case.question.score(reply),
            of=score.of + 1,
            valid_json=score.valid_json + (parsed_json(reply) is not None),
        )
        if index < control and case.question.evidence:
            without = answer(case.prompt(control=True))
            score = replace(
                score,
                control_right=score.control_right + case.question.score(without),
                control_of=score.control_of + 1,
            )
    return score


def table(scores: Sequence[Score]) -> str:
    """Scores as a Markdown table."""
    lines = [
        "| task | tokens | right | accuracy | 95 % interval | without evidence |",
        "|---|---|---|---|---|---|",
    ]
    for score in scores:
        low, high = score.interval
        control = f"{score.control_right / score.control_of:.0%}" if score.control_of else "-"
        valid = f", {score.valid_json / score.of:.0%} valid" if score.task == "json" and score.of else ""
        lines.append(
            f"| {score.task} | {score.length} | {score.right}/{score.of} | {score.accuracy:.1%}{valid} "
            f"| {low:.1%} - {high:.1%} | {control} |"
        )
    return "\n".join(lines)


def known_tasks(names: Sequence[str]) -> tuple[str, ...]:
    """The named tasks, or all; an unknown name is an error."""
    unknown = sorted(set(names) - set(TASKS))
    if unknown:
        raise ValueError(f"unknown tasks {', '.join(unknown)}; known are {', '.join(TASKS)}")
    return tuple(names) or tuple(TASKS)
