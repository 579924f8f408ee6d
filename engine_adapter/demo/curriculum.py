"""The order of lessons: form the recall circuit on bare pairs, widen it, lengthen it, then read prose.

Trained straight on facts in prose with hundreds of names, a model of this size stays on the plateau of
guessing among values of the right type. On six pairs of sixteen words the circuit forms within two million
tokens, and each later lesson is a small step from the one before.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from engine_adapter.demo.rows import ALL_TASKS, Mix, Row, RowWriter
from engine_adapter.demo.world import Scope

Maker = Callable[[RowWriter, random.Random, int], Row]


@dataclass(frozen=True, slots=True)
class Lesson:
    """Rows of one difficulty.

    `makers` are (weight, maker) pairs, `lengths` (weight, tokens) pairs. The lesson ends when the accuracy on
    recalled words passes `goal`, or after `most` tokens.
    """

    name: str
    lengths: tuple[tuple[float, int], ...]
    makers: tuple[tuple[float, Maker], ...]
    goal: float
    most: float

    def length(self, rng: random.Random) -> int:
        """Row length of one step."""
        weights, lengths = zip(*self.lengths, strict=True)
        return int(rng.choices(lengths, weights)[0])

    def batch(self, writer: RowWriter, rng: random.Random, tokens: int, length: int) -> list[Row]:
        """Rows of `length` tokens, together about `tokens` tokens, at least one."""
        shares, makers = zip(*self.makers, strict=True)
        return [rng.choices(makers, shares)[0](writer, rng, length) for _ in range(max(1, tokens // length))]


def pairs(words: int, count: int, twins: float = 0.0) -> Maker:
    """Maker of key-value rows."""
    return lambda writer, rng, length: writer.pairs(rng, length, words, min(count, length // 5), twins)


def triples(names: int, keys: int, facts: int) -> Maker:
    """Maker of rows with two-part keys."""
    return lambda writer, rng, length: writer.triples(rng, length, names, keys, min(facts, length // 10))


def comparisons(writer: RowWriter, rng: random.Random, length: int) -> Row:
    """Maker of rows that compare numbers."""
    return writer.comparisons(rng, length)


def up_to(limit: int, short: Maker, long: Maker) -> Maker:
    """`short` for rows of at most `limit` tokens, `long` for others."""
    return lambda writer, rng, length: (short if length <= limit else long)(writer, rng, length)


def chats(mix: Mix) -> Maker:
    """Maker of rows with documents and questions."""
    return lambda writer, rng, length: writer.chat(rng, length, mix)


def talk(scope: Scope) -> Maker:
    """Maker of rows without documents."""
    return lambda writer, rng, length: writer.talk(rng, length, scope)


def repeats(words: int) -> Maker:
    """Maker of repeated random sequences."""
    return lambda writer, rng, length: writer.repeats(rng, length, words)


_EVERY = 10_000
_PLAIN = Scope(phrasings=1)
_RECALL = {"one_hop": 4.0, "brief": 1.0, "inverse": 1.0, "follow_up": 1.0, "not_stated": 1.0, "quote": 0.5}
_FACTS = Mix(_RECALL, _PLAIN, filler=0.05, document_share=(0.3, 0.6))
_FULL = Mix(ALL_TASKS, split="varied")
_LONG = Mix(ALL_TASKS, document_share=(0.4, 0.93), split="varied")
_PLAINLY = Mix({**ALL_TASKS, "one_hop": 7.0, "two_hop": 3.0, "json": 3.0}, document_share=(0.4, 0.93))
"""What is said most is said plainly; without a part of its own it is learned worst of all."""
_CONCLUDE = Mix(
    {
        **dict.fromkeys(("yes_no", "choice", "inverse"), 3.0),
        **dict.fromkeys(("json", "quote", "summary", "select"), 1.5),
        "not_stated": 0.7,
        "count": 1.0,
    },
    document_share=(0.25, 0.5),
    split="varied",
)
_NUMBERS = Mix(
    {"compare": 4.0, "inverse": 1.0, "yes_no": 1.0},
    Scope(relations=("age", "price", "home", "food")),
    document_share=(0.25, 0.5),
    split="varied",
)

LESSONS = (
    Lesson("pairs", ((1, 192),), ((3, pairs(_EVERY, 32, 0.3)), (1, repeats(_EVERY))), 0.85, 2e6),
    Lesson("triples", ((1, 192),), ((3, triples(_EVERY, 22, 20)), (1, pairs(_EVERY, 32, 0.3))), 0.65, 2e6),
    Lesson(
        "facts",
        ((1, 256),),
        ((6, chats(_FACTS)), (1, triples(_EVERY, 22, 24)), (1.2, talk(Scope()))),
        0.6,
        1e6,
    ),
    Lesson("tasks-256", ((1, 128), (2, 256)), ((7, chats(_FULL)), (1.3, talk(Scope()))), 0.8, 3e6),
    Lesson("tasks-512", ((1, 256), (3, 512)), ((9, chats(_FULL)), (1, talk(Scope()))), 0.85, 0.7e6),
    Lesson(
        "tasks-4096",
        ((6, 256), (2, 512), (2, 1024), (1.5, 2048), (0.7, 4096)),
        (
            (6, chats(_PLAINLY)),
            (6, chats(_LONG)),
            (3, up_to(512, chats(_CONCLUDE), chats(_LONG))),
            (1, up_to(512, chats(_NUMBERS), chats(_LONG))),
            (0.4, up_to(512, comparisons, chats(_LONG))),
            (1, talk(Scope())),
        ),
        2.0,
        float("inf"),
    ),
)
"""Lessons of `base`."""

_CLERK = Mix(
    {"json": 4.0, "brief": 2.0, "yes_no": 2.0, "choice": 1.0, "count": 1.0, "select": 1.0}, split="varied"
)
_TELLER = Mix(
    {"summary": 4.0, "quote": 2.0, "follow_up": 2.0, "two_hop": 1.0, "one_hop": 1.0}, split="varied"
)
_SHORT_AND_LONG = ((3, 256), (2, 512), (2, 1024), (1, 2048))

DRAFT_LESSONS = (
    Lesson("pairs", ((1, 128),), ((3, pairs(_EVERY, 20, 0.3)), (1, repeats(_EVERY))), 0.7, 0.8e6),
    Lesson("triples", ((1, 128),), ((3, triples(_EVERY, 22, 12)), (1, pairs(_EVERY, 20, 0.3))), 0.5, 0.8e6),
    Lesson(
        "facts",
        ((1, 192),),
        ((6, chats(_FACTS)), (1, triples(_EVERY, 22, 16)), (1, talk(Scope()))),
        0.5,
        1.5e6,
    ),
    Lesson(
        "tasks", ((3, 256), (1, 512), (1, 1024)), ((4, chats(_FULL)), (1, talk(Scope()))), 2.0, float("inf")
    ),
)
"""`draft` only has to foresee the next few words of `base`, most of which are wording and copies."""

CLERK_LESSONS = (
    Lesson("clerk", _SHORT_AND_LONG, ((9, chats(_CLERK)), (1, talk(Scope()))), 2.0, float("inf")),
)
"""`clerk` fills forms: JSON, single words, decisions."""

TELLER_LESSONS = (
    Lesson("teller", _SHORT_AND_LONG, ((3, chats(_TELLER)), (2, talk(Scope()))), 2.0, float("inf")),
)
"""`teller` retells: summaries, quotations, stories."""
