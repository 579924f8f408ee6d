"""A world is an ordered list of facts that knows every answer about itself."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine_adapter.demo.lexicon import KINDS, WOMEN
from engine_adapter.demo.relations import RELATIONS, Relation, about

_WOMEN = frozenset(WOMEN)
_WITH_ARTICLE = frozenset({"object", "event"})


@dataclass(frozen=True, slots=True)
class Scope:
    """How wide a world may draw: the curriculum starts narrow, evaluation is always full.

    `members` caps every kind, `phrasings` caps the wordings of each relation, `relations` restricts which
    relations occur; `None` means all.
    """

    members: int | None = None
    phrasings: int | None = None
    relations: tuple[str, ...] | None = None

    def pool(self, kind: str) -> tuple[str, ...]:
        """Members of a kind that may occur."""
        everyone = KINDS[kind]
        if self.members is None or len(everyone) <= self.members:
            return everyone
        stride = len(everyone) // self.members
        return everyone[::stride][: self.members]

    def about(self, kind: str) -> tuple[Relation, ...]:
        """Relations of subjects of a kind that may occur."""
        return tuple(r for r in about(kind) if self.relations is None or r.name in self.relations)

    def phrases(self, wordings: tuple[str, ...]) -> tuple[str, ...]:
        """The wordings that may occur out of all of one kind."""
        return wordings if self.phrasings is None else wordings[: self.phrasings]


@dataclass(frozen=True, slots=True)
class Fact:
    """`relation` joins `subject` with `value`; `supersedes` marks a change of an earlier fact."""

    relation: str
    subject: str
    value: str
    supersedes: bool = False


def with_article(word: str) -> str:
    """`a` or `an` before a word."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def clause(template: str, subject: str, value: str = "") -> str:
    """Put a fact into a template that continues a sentence: only names keep a capital letter."""
    if template[0] != "{":
        template = template[0].lower() + template[1:]
    text = template.replace("{s}", subject).replace("{v}", value)
    return text.replace("{a}", with_article(value)) if "{a}" in text else text


def fill(template: str, subject: str, value: str = "") -> str:
    """Put a fact into a template; a sentence gets its capital letter."""
    text = clause(template, subject, value)
    return text[0].upper() + text[1:]


def is_woman(person: str) -> bool:
    """Which pronouns the language uses for a person."""
    return person in _WOMEN


@dataclass(frozen=True, slots=True)
class World:
    """Facts in the order in which a text may tell them."""

    facts: tuple[Fact, ...]
    scope: Scope = Scope()
    _history: Mapping[tuple[str, str], list[str]] = field(init=False, repr=False, compare=False)
    _subjects: Mapping[str, list[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        history: dict[tuple[str, str], list[str]] = defaultdict(list)
        subjects: dict[str, dict[str, None]] = defaultdict(dict)
        for fact in self.facts:
            history[fact.relation, fact.subject].append(fact.value)
            subjects[RELATIONS[fact.relation].subject][fact.subject] = None
        object.__setattr__(self, "_history", dict(history))
        object.__setattr__(self, "_subjects", {kind: list(members) for kind, members in subjects.items()})

    def history(self, relation: str, subject: str) -> Sequence[str]:
        """All values a subject has had, oldest first; empty if the world does not say."""
        return self._history.get((relation, subject), ())

    def current(self, relation: str, subject: str) -> str | None:
        """The latest value, or `None` if the world does not say."""
        values = self._history.get((relation, subject))
        return values[-1] if values else None

    def holders(self, relation: str, value: str) -> list[str]:
        """Subjects whose current value is `value`, in the order of their first mention as a subject."""
        return [s for (name, s), values in self._history.items() if name == relation and values[-1] == value]

    def subjects(self, kind: str) -> Sequence[str]:
        """Things of a kind about which there is at least one fact."""
        return self._subjects.get(kind, ())

    def known(self, *, changed: bool | None = None) -> list[tuple[str, str]]:
        """All (relation, subject) pairs with a value; filtered by whether the value has changed."""
        return [
            pair for pair, values in self._history.items() if changed is None or (len(values) > 1) is changed
        ]


def _sample(rng: random.Random, pool: Sequence[str], count: int) -> list[str]:
    return rng.sample(pool, min(count, len(pool)))


def build_world(rng: random.Random, facts: int, scope: Scope = Scope(), *, changes: float = 0.12) -> World:
    """Draw a world of about `facts` facts.

    People, towns, objects and events are picked afresh; relations between people stay inside the world, so
    chains of questions have answers. A share `changes` of the changeable facts is later superseded.
    """
    people = _sample(rng, scope.pool("person"), max(2, round(facts / rng.uniform(2.5, 5.0))))
    towns = _sample(rng, scope.pool("town"), max(2, round(len(people) * rng.uniform(0.4, 0.9))))
    objects = ["the " + o for o in _sample(rng, scope.pool("object"), max(1, round(facts / 8)))]
    events = ["the " + e for e in _sample(rng, scope.pool("event"), max(1, round(facts / 16)))]
    inside = {"person": people, "town": towns}
    candidates: list[tuple[Relation, str]] = []
    for kind, members in (("person", people), ("town", towns), ("object", objects), ("event", events)):
        candidates += [(relation, subject) for relation in scope.about(kind) for subject in members]
    chosen = _sample_pairs(rng, candidates, facts)
    first: list[Fact] = []
    later: list[Fact] = []
    for relation, subject in chosen:
        pool = inside.get(relation.value) or scope.pool(relation.value)
        value = _other(rng, pool, subject)
        if value is None:
            continue
        first.append(Fact(relation.name, subject, value))
        if relation.moved and rng.random() < changes:
            new = _other(rng, pool, subject, value)
            if new is not None:
                later.append(Fact(relation.name, subject, new, supersedes=True))
    return World(tuple(first + later), scope)


def _sample_pairs(
    rng: random.Random, candidates: list[tuple[Relation, str]], count: int
) -> list[tuple[Relation, str]]:
    return rng.sample(candidates, min(count, len(candidates)))


def _other(rng: random.Random, pool: Sequence[str], *taken: str) -> str | None:
    """A member that differs from those taken, or `None` if there is none."""
    for _ in range(8):
        value = rng.choice(pool)
        if value not in taken:
            return value
    left = [member for member in pool if member not in taken]
    return rng.choice(left) if left else None
