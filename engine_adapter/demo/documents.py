"""Turns a world into text: reports, lists, dialogues and stories, with distractors and repeated mentions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from engine_adapter.demo.fillers import FILLERS, OPENINGS, TITLES
from engine_adapter.demo.lexicon import KINDS
from engine_adapter.demo.phrasings import AFTER, BEFORE
from engine_adapter.demo.relations import RELATIONS
from engine_adapter.demo.world import Fact, Scope, World, clause, fill, is_woman


@dataclass(frozen=True, slots=True)
class Sentence:
    """A piece of text with the facts that it states; `before` is the white space or mark-up that leads to
    it."""

    text: str
    facts: tuple[Fact, ...] = ()
    before: str = " "


@dataclass(frozen=True, slots=True)
class Document:
    """A text in sentences, so that a bench can remove exactly the evidence."""

    title: str
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """The whole text, without the title."""
        return "".join(s.before + s.text for s in self.sentences).strip()

    def without(self, relation: str, subject: str) -> Document:
        """The same document with every sentence removed that states this relation of this subject."""
        kept = (
            s
            for s in self.sentences
            if not any((f.relation, f.subject) == (relation, subject) for f in s.facts)
        )
        return replace(self, sentences=tuple(kept))


@dataclass(frozen=True, slots=True)
class Wording:
    """How freely a document is written: which templates, and how much besides the facts."""

    split: str = "seen"
    scope: Scope = Scope()
    fillers: float = 0.15
    joined: float = 0.15
    pronouns: float = 0.08
    repeats: float = 0.05
    wrapped: float = 0.12

    def state(self, rng: random.Random, fact: Fact) -> str:
        """One sentence that states a fact, sometimes with words before or behind it."""
        relation = RELATIONS[fact.relation]
        if fact.supersedes:
            return fill(rng.choice(relation.moved), fact.subject, fact.value)
        template = rng.choice(self.scope.phrases(relation.templates(self.split)))
        if self.split != "varied" or rng.random() >= self.wrapped:
            return fill(template, fact.subject, fact.value)
        if rng.random() < 0.6:
            return rng.choice(BEFORE) + clause(template, fact.subject, fact.value)
        return fill(template, fact.subject, fact.value)[:-1] + rng.choice(AFTER)

    def predicate(self, rng: random.Random, fact: Fact) -> str | None:
        """A statement without its subject and full stop, or `None` if none begins with the subject."""
        relation = RELATIONS[fact.relation]
        wordings = relation.templates("varied") if self.split == "varied" else (relation.answer,)
        fitting = [wording for wording in wordings if wording.startswith("{s} ")]
        if not fitting or fact.supersedes:
            return None
        return clause(rng.choice(fitting), "", fact.value)[1:-1]


def _ordered(rng: random.Random, facts: tuple[Fact, ...], *, grouped: bool) -> list[Fact]:
    """Facts grouped by subject or shuffled; a change always comes after what it changes."""
    order = list(facts)
    rng.shuffle(order)
    if grouped:
        rank = {subject: i for i, subject in enumerate(dict.fromkeys(f.subject for f in order))}
        order.sort(key=lambda f: rank[f.subject])
    place: dict[tuple[str, str], list[int]] = {}
    for i, fact in enumerate(order):
        place.setdefault((fact.relation, fact.subject), []).append(i)
    for slots in place.values():
        if len(slots) > 1:
            for i, fact in zip(
                slots, sorted((order[i] for i in slots), key=lambda f: f.supersedes), strict=True
            ):
                order[i] = fact
    return order


def _prose(
    rng: random.Random, order: list[Fact], wording: Wording, changed: set[tuple[str, str]]
) -> list[Sentence]:
    sentences: list[Sentence] = []
    i = 0
    while i < len(order):
        fact = order[i]
        following = order[i + 1] if i + 1 < len(order) else None
        same = following is not None and following.subject == fact.subject
        tail = wording.predicate(rng, following) if following is not None and same else None
        head = wording.predicate(rng, fact) if tail else None
        person = RELATIONS[fact.relation].subject == "person"
        if tail and head and rng.random() < wording.joined:
            text = fill("{s} {v}", fact.subject, f"{head} and {tail}.")
            sentences.append(Sentence(text, (fact, following)))  # type: ignore[arg-type]
            i += 2
        elif tail and head and person and rng.random() < wording.pronouns:
            sentences.append(Sentence(fill("{s} {v}.", fact.subject, head), (fact,)))
            pronoun = "She" if is_woman(fact.subject) else "He"
            sentences.append(Sentence(f"{pronoun} {tail}.", (following,)))  # type: ignore[arg-type]
            i += 2
        else:
            sentences.append(Sentence(wording.state(rng, fact), (fact,)))
            i += 1
        if rng.random() < wording.fillers:
            sentences.append(Sentence(rng.choice(FILLERS)))
        if i > 4 and rng.random() < wording.repeats:
            again = rng.choice(order[: i - 1])
            if (again.relation, again.subject) not in changed:
                sentences.append(Sentence(wording.state(rng, again), (again,)))
    return sentences


def report(
    rng: random.Random, order: list[Fact], wording: Wording, changed: set[tuple[str, str]]
) -> list[Sentence]:
    """Running prose, broken into paragraphs."""
    sentences = _prose(rng, order, wording, changed)
    length = rng.randint(4, 12)
    return [replace(s, before="\n\n") if i and i % length == 0 else s for i, s in enumerate(sentences)]


def story(
    rng: random.Random, order: list[Fact], wording: Wording, changed: set[tuple[str, str]]
) -> list[Sentence]:
    """Prose with an opening and more atmosphere."""
    told = replace(wording, fillers=wording.fillers * 2.5, pronouns=wording.pronouns * 2)
    return [Sentence(rng.choice(OPENINGS)), *_prose(rng, order, told, changed)]


def listing(
    rng: random.Random, order: list[Fact], wording: Wording, changed: set[tuple[str, str]]
) -> list[Sentence]:
    """One line per fact, either a sentence or `subject - key: value`."""
    short = rng.random() < 0.5
    lines = []
    for fact in order:
        relation = RELATIONS[fact.relation]
        if short and not fact.supersedes:
            lines.append(Sentence(f"{fact.subject}: {relation.key} {fact.value}", (fact,), "\n- "))
        else:
            lines.append(Sentence(wording.state(rng, fact), (fact,), "\n- "))
    return lines


def dialogue(
    rng: random.Random, order: list[Fact], wording: Wording, changed: set[tuple[str, str]]
) -> list[Sentence]:
    """Two people take turns to tell the facts."""
    mentioned = {f.subject for f in order} | {f.value for f in order}
    speakers = rng.sample([p for p in KINDS["person"] if p not in mentioned], 2)
    lines: list[Sentence] = []
    turn = 0
    for sentence in _prose(rng, order, wording, changed):
        if not lines or rng.random() < 0.5:
            lines.append(replace(sentence, before=f"\n{speakers[turn]}: "))
            turn = 1 - turn
        else:
            lines.append(sentence)
    return lines


Form = Callable[[random.Random, list[Fact], Wording, set[tuple[str, str]]], list[Sentence]]
FORMS: Mapping[str, Form] = MappingProxyType(
    {"report": report, "story": story, "listing": listing, "dialogue": dialogue}
)


def write(
    rng: random.Random,
    world: World,
    wording: Wording,
    form: str | None = None,
    facts: tuple[Fact, ...] | None = None,
) -> Document:
    """Write a document of all facts of the world (or of `facts` alone) in a form drawn at random or named."""
    name = form or rng.choice(tuple(FORMS))
    told = world.facts if facts is None else facts
    changed = set(world.known(changed=True))
    order = _ordered(rng, told, grouped=rng.random() < (0.8 if name == "story" else 0.4))
    return Document(rng.choice(TITLES), tuple(FORMS[name](rng, order, wording, changed)))
