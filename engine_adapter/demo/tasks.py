"""Questions about a document, each with the answer a model is trained on and an exact scorer.

Answers that need several facts state the facts first ("The boss of Ada is Ben, and Ben lives in Dunwick."):
the steps are in the text, where a small model can take them one by one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine_adapter.demo.documents import Document
from engine_adapter.demo.lexicon import COUNT_WORDS
from engine_adapter.demo.phrasings import ASIDE, INDIRECT
from engine_adapter.demo.relations import RELATIONS, Relation
from engine_adapter.demo.scoring import SCORERS
from engine_adapter.demo.world import World, clause, fill, is_woman

Pair = tuple[str, str]
"""A relation name and a subject."""


@dataclass(frozen=True, slots=True)
class Question:
    """`text` asks, `answer` is the model answer, `expected` what the scorer `scorer` looks for.

    `evidence` are the facts without which it cannot be answered; `lead` is an earlier turn that the question
    refers to. `decisive` are words of the answer that wording alone does not foretell.
    """

    task: str
    text: str
    answer: str
    expected: str
    scorer: str
    kind: str = "person"
    evidence: tuple[Pair, ...] = ()
    lead: Question | None = None
    decisive: tuple[str, ...] = ()

    def score(self, reply: str) -> bool:
        """Whether a reply is right."""
        return SCORERS[self.scorer](reply, self.expected, self.kind)


@dataclass(frozen=True, slots=True)
class Reading:
    """A world as one or several documents tell it."""

    world: World
    documents: tuple[Document, ...]
    split: str = "seen"

    def ask(self, rng: random.Random, relation: Relation, subject: str) -> str:
        """A question for the value of a relation."""
        wordings = relation.asked(self.split)
        plain = fill(rng.choice(self.world.scope.phrases(wordings)), subject)
        if self.split != "varied" or rng.random() < 0.75:
            return plain
        if rng.random() < 0.5:
            return rng.choice(INDIRECT).replace("{u}", relation.unknown.replace("{s}", subject))
        return aside(rng, plain)

    def order(self) -> dict[Pair, int]:
        """Where each (relation, subject) is first stated, changes at the place of the change."""
        places: dict[Pair, int] = {}
        index = 0
        for document in self.documents:
            for sentence in document.sentences:
                for fact in sentence.facts:
                    pair = (fact.relation, fact.subject)
                    if fact.supersedes or pair not in places:
                        places[pair] = index
                index += 1
        return places


def aside(rng: random.Random, question: str) -> str:
    """A question with a few words before it; all questions begin with a word that is no name."""
    opening = rng.choice(ASIDE)
    return opening.replace("{q}", question if ": " in opening else question[0].lower() + question[1:])


def _stable(rng: random.Random, reading: Reading) -> Pair | None:
    pairs = reading.world.known(changed=False)
    return rng.choice(pairs) if pairs else None


def _value(reading: Reading, pair: Pair) -> str:
    value = reading.world.current(*pair)
    if value is None:
        raise KeyError(f"the world does not state {pair}")
    return value


def _sentence(reading: Reading, pair: Pair) -> str:
    return fill(RELATIONS[pair[0]].answer, pair[1], _value(reading, pair))


def _series(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _one_hop(rng: random.Random, reading: Reading, pair: Pair, task: str, text: str) -> Question:
    value = _value(reading, pair)
    kind = RELATIONS[pair[0]].value
    return Question(task, text, _sentence(reading, pair), value, "last_value", kind, (pair,))


def one_hop(rng: random.Random, reading: Reading) -> Question | None:
    """The value of one fact that never changes."""
    pair = _stable(rng, reading)
    return pair and _one_hop(rng, reading, pair, "one_hop", reading.ask(rng, RELATIONS[pair[0]], pair[1]))


def brief(rng: random.Random, reading: Reading) -> Question | None:
    """The value alone, on request."""
    pair = _stable(rng, reading)
    if pair is None:
        return None
    relation, subject = RELATIONS[pair[0]], pair[1]
    how = rng.choice(("Answer with one word.", "One word only.", "Give a one-word answer."))
    text = rng.choice(
        (
            f"{reading.ask(rng, relation, subject)} {how}",
            f"{subject}: {relation.key}?",
            f"{relation.key} of {subject}?",
        )
    )
    value = _value(reading, pair)
    return Question("brief", text, value, value, "last_value", RELATIONS[pair[0]].value, (pair,))


def inverse(rng: random.Random, reading: Reading) -> Question | None:
    """Which subject has a value, where exactly one has."""
    pair = _stable(rng, reading)
    if pair is None or not RELATIONS[pair[0]].inverse:
        return None
    relation, value = RELATIONS[pair[0]], _value(reading, pair)
    if reading.world.holders(relation.name, value) != [pair[1]]:
        return None
    text = fill(rng.choice(relation.inverse), "", value)
    kind = relation.subject
    return Question(
        "inverse", text, _sentence(reading, pair), pair[1].split()[-1], "last_value", kind, (pair,)
    )


def _hops(rng: random.Random, reading: Reading, count: int) -> Question | None:
    world = reading.world
    starts = [p for p in world.known(changed=False) if RELATIONS[p[0]].value in {"person", "town"}]
    rng.shuffle(starts)
    for start in starts[:20]:
        chain = [start]
        while len(chain) < count:
            onward = [
                (r.name, _value(reading, chain[-1]))
                for r in world.scope.about(RELATIONS[chain[-1][0]].value)
                if len(world.history(r.name, _value(reading, chain[-1]))) == 1
            ]
            if len(chain) + 1 < count:
                onward = [p for p in onward if RELATIONS[p[0]].value in {"person", "town"}]
            seen = {p[1] for p in chain} | {_value(reading, chain[-1])}
            onward = [p for p in onward if _value(reading, p) not in seen]
            if not onward:
                break
            chain.append(rng.choice(onward))
        if len(chain) < count:
            continue
        noun = start[1]
        for name, _ in chain[:-1]:
            noun = RELATIONS[name].noun.replace("{s}", noun)
        last = RELATIONS[chain[-1][0]]
        steps = [_sentence(reading, pair)[:-1] for pair in chain]
        answer = ", and ".join(
            [steps[0], *(_lower(s, p[1]) for s, p in zip(steps[1:], chain[1:], strict=True))]
        )
        task = {2: "two_hop", 3: "three_hop"}[count]
        text = reading.ask(rng, last, noun)
        return Question(
            task, text, answer + ".", _value(reading, chain[-1]), "last_value", last.value, tuple(chain)
        )
    return None


def _lower(sentence: str, subject: str) -> str:
    """A sentence inside another one: lower case unless it starts with a name."""
    return (
        sentence
        if sentence.startswith(subject) and subject[0].isupper()
        else sentence[0].lower() + sentence[1:]
    )


def two_hop(rng: random.Random, reading: Reading) -> Question | None:
    """A fact about somebody or some town that is itself named by a fact."""
    return _hops(rng, reading, 2)


def three_hop(rng: random.Random, reading: Reading) -> Question | None:
    """One step further than `two_hop`."""
    return _hops(rng, reading, 3)


def latest(rng: random.Random, reading: Reading) -> Question | None:
    """The present value of a fact that has changed."""
    pairs = reading.world.known(changed=True)
    if not pairs:
        return None
    pair = rng.choice(pairs)
    asked = reading.ask(rng, RELATIONS[pair[0]], pair[1])
    text = f"{asked[:-1]} now{asked[-1]}"
    return _one_hop(rng, reading, pair, "latest", text)


def _missing(rng: random.Random, reading: Reading) -> Pair | None:
    world = reading.world
    for _ in range(8):
        kind = rng.choice(("person", "person", "town", "object", "event"))
        relations = world.scope.about(kind)
        inside = world.subjects(kind)
        if not relations:
            continue
        if inside and rng.random() < 0.7:
            subject = rng.choice(inside)
        else:
            subject = rng.choice(world.scope.pool(kind))
            subject = subject if kind in {"person", "town"} else f"the {subject}"
        relation = rng.choice(relations)
        if not world.history(relation.name, subject):
            return relation.name, subject
    return None


def not_stated(rng: random.Random, reading: Reading) -> Question | None:
    """A question that the text does not answer."""
    pair = _missing(rng, reading)
    if pair is None:
        return None
    relation = RELATIONS[pair[0]]
    text, answer = reading.ask(rng, relation, pair[1]), fill(relation.unstated, pair[1])
    return Question("not_stated", text, answer, "", "denial", decisive=(turn(relation),))


def turn(relation: Relation) -> str:
    """The word of `unstated` where it parts from `answer`."""
    stated = relation.answer.replace("{a}", "a {v}").split()
    return next(said for said, other in zip(relation.unstated.split(), stated, strict=False) if said != other)


def _wrong(rng: random.Random, reading: Reading, relation: Relation, right: str) -> str:
    used = [
        v
        for (name, s) in reading.world.known()
        if name == relation.name and (v := _value(reading, (name, s)))
    ]
    pool = used if len(set(used)) > 3 and rng.random() < 0.6 else reading.world.scope.pool(relation.value)
    choices = [v for v in set(pool) if v != right]
    return rng.choice(sorted(choices)) if choices else right


def decide(rng: random.Random, reading: Reading) -> Question | None:
    """Yes or no."""
    pair = _stable(rng, reading)
    if pair is None:
        return None
    relation, value = RELATIONS[pair[0]], _value(reading, pair)
    yes = rng.random() < 0.5
    claimed = value if yes else _wrong(rng, reading, relation, value)
    if not yes and claimed == value:
        return None
    text = fill(relation.check, pair[1], claimed)
    if reading.split == "varied" and rng.random() < 0.3:
        text = f"Is it true that {clause(relation.answer, pair[1], claimed)[:-1]}?"
    verdict = "yes" if yes else "no"
    answer = f"{_sentence(reading, pair)[:-1]}, so {verdict}."
    return Question("yes_no", text, answer, verdict, "yes_no", evidence=(pair,), decisive=(verdict,))


def choose(rng: random.Random, reading: Reading) -> Question | None:
    """Multiple choice."""
    pair = _stable(rng, reading)
    if pair is None:
        return None
    relation, value = RELATIONS[pair[0]], _value(reading, pair)
    options = [value]
    for _ in range(3):
        other = _wrong(rng, reading, relation, value)
        if other not in options:
            options.append(other)
    rng.shuffle(options)
    letters = "ABCD"[: len(options)]
    shown = " ".join(f"{mark}) {option}" for mark, option in zip(letters, options, strict=True))
    right = letters[options.index(value)]
    text = f"{reading.ask(rng, relation, pair[1])} {shown}"
    answer = f"{_sentence(reading, pair)[:-1]}, so {right}."
    return Question("choice", text, answer, right, "letter", evidence=(pair,), decisive=(right,))


_PLURAL = MappingProxyType(
    {
        "lives": "live",
        "was": "were",
        "works": "work",
        "loves": "love",
        "has": "have",
        "enjoys": "enjoy",
        "plays": "play",
        "wears": "wear",
        "lies": "lie",
        "is": "are",
        "costs": "cost",
    }
)
_MANY = MappingProxyType({"person": "people", "town": "towns", "object": "things", "event": "events"})


def _plural(predicate: str) -> str:
    verb, rest = predicate.split(" ", 1)
    return f"{_PLURAL[verb]} {rest}"


def _counted(rng: random.Random, reading: Reading) -> tuple[Relation, str, str] | None:
    pairs = [p for p in reading.world.known() if RELATIONS[p[0]].counted]
    if not pairs:
        return None
    several = [p for p in pairs if RELATIONS[p[0]].value == "town"]
    pair = rng.choice(several if several and rng.random() < 0.7 else pairs)
    relation, value = RELATIONS[pair[0]], _value(reading, pair)
    said = fill("X " + relation.counted, "", value)[2:]
    return relation, value, said


def counting(rng: random.Random, reading: Reading) -> Question | None:
    """How many subjects share a value; the answer names them."""
    picked = _counted(rng, reading)
    if picked is None:
        return None
    relation, value, said = picked
    order = reading.order()
    holders = sorted(
        reading.world.holders(relation.name, value), key=lambda s: order.get((relation.name, s), 0)
    )
    if not 1 <= len(holders) <= 5:
        return None
    text = f"How many {_MANY[relation.subject]} {_plural(said)}?"
    listing = _series(holders)
    listing = listing[0].upper() + listing[1:]
    number = COUNT_WORDS[len(holders)]
    answer = f"{listing} {said if len(holders) == 1 else _plural(said)}, so the answer is {number}."
    evidence = tuple((relation.name, s) for s in holders)
    return Question("count", text, answer, number, "count", evidence=evidence, decisive=(number,))


def select(rng: random.Random, reading: Reading) -> Question | None:
    """Which of several named subjects share a value."""
    picked = _counted(rng, reading)
    if picked is None:
        return None
    relation, value, said = picked
    known = [s for (name, s) in reading.world.known() if name == relation.name]
    holders = reading.world.holders(relation.name, value)
    others = [s for s in known if s not in holders]
    named = rng.sample(holders, min(len(holders), rng.randint(0, 2)))
    named += rng.sample(others, min(len(others), rng.randint(1, 3)))
    if len(named) < 2:
        return None
    rng.shuffle(named)
    right = [s for s in named if s in holders]
    text = f"Which of these {_plural(said)}: {', '.join(named)}?"
    steps = " ".join(
        f"{_sentence(reading, (relation.name, s))[:-1]}, so {'yes' if s in right else 'no'}." for s in named
    )
    answer = f"{steps} The answer is: {_series(right) if right else 'none'}."
    expected = ",".join(s.split()[-1] for s in right) or "none"
    evidence = tuple((relation.name, s) for s in named)
    decisive = ("yes", "no", "none", *expected.split(","))
    return Question("select", text, answer, expected, "listed", relation.subject, evidence, decisive=decisive)


_SCALES = MappingProxyType(
    {
        "age": ("Who is older, {x} or {y}?", "Who is younger, {x} or {y}?", "older", "younger", "is"),
        "price": ("Which costs more, {x} or {y}?", "Which costs less, {x} or {y}?", "more", "less", "costs"),
    }
)


def compare(rng: random.Random, reading: Reading) -> Question | None:
    """Which of two numbers is larger or smaller; the answer compares the numbers, then names the owner."""
    name = rng.choice(tuple(_SCALES))
    known = [s for (relation, s) in reading.world.known() if relation == name]
    if len(known) < 2:
        return None
    x, y = rng.sample(known, 2)
    vx, vy = int(_value(reading, (name, x))), int(_value(reading, (name, y)))
    if vx == vy:
        return None
    larger = rng.random() < 0.5
    more, less, big, small, verb = _SCALES[name]
    winner = x if (vx > vy) is larger else y
    text = (more if larger else less).replace("{x}", x).replace("{y}", y)
    facts = [_sentence(reading, (name, s))[:-1] for s in (x, y)]
    loser, best = (min(vx, vy), max(vx, vy)) if larger else (max(vx, vy), min(vx, vy))
    comparison = f"{loser} is {'less' if larger else 'more'} than {best}"
    answer = (
        f"{facts[0]} and {_lower(facts[1], y)}. {comparison}, so {winner} {verb} {big if larger else small}."
    )
    expected, kind = winner.split()[-1], RELATIONS[name].subject
    decisive = (str(loser), str(best), expected)
    return Question(
        "compare", text, answer, expected, "last_value", kind, ((name, x), (name, y)), decisive=decisive
    )


def as_json(rng: random.Random, reading: Reading) -> Question | None:
    """One to four facts about one subject as a JSON object; `null` where the text does not say."""
    pair = _stable(rng, reading)
    if pair is None:
        return None
    subject = pair[1]
    kind = RELATIONS[pair[0]].subject
    relations = list(reading.world.scope.about(kind))
    stated = [r for r in relations if len(reading.world.history(r.name, subject)) == 1]
    missing = [r for r in relations if not reading.world.history(r.name, subject)]
    fields = rng.sample(stated, min(len(stated), rng.randint(1, 3)))
    if missing and rng.random() < 0.3:
        fields.append(rng.choice(missing))
    rng.shuffle(fields)
    if not fields:
        return None
    value: dict[str, str | int | None] = {"name": subject.removeprefix("the ")}
    for relation in fields:
        word = reading.world.current(relation.name, subject)
        value[relation.key] = int(word) if word and relation.value in {"age", "price"} else word
    keys = ", ".join(f'"{key}"' for key in value)
    text = rng.choice(
        (
            f"Describe {subject} as JSON with the keys {keys}.",
            f"Give a JSON object about {subject} with the keys {keys}.",
            f"Write JSON for {subject}. Keys: {keys}.",
        )
    )
    answer = json.dumps(value)
    evidence = tuple((r.name, subject) for r in fields if r in stated)
    return Question("json", text, answer, answer, "same_json", evidence=evidence, decisive=("null",))


def quote(rng: random.Random, reading: Reading) -> Question | None:
    """Copy the one sentence that begins with given words."""
    sentences = [s for document in reading.documents for s in document.sentences if s.facts]
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    words = sentence.text.split()
    begins = " ".join(words[: rng.randint(2, 4)])
    elsewhere = sum(s.text.startswith(begins) for s in sentences)
    if len(words) < 5 or elsewhere != 1:
        return None
    text = rng.choice(
        (
            f'Quote the sentence that begins "{begins}".',
            f'Which sentence begins with "{begins}"?',
            f'Copy the sentence that starts with "{begins}".',
        )
    )
    evidence = tuple((f.relation, f.subject) for f in sentence.facts)
    return Question("quote", text, sentence.text, sentence.text, "verbatim", evidence=evidence)


def summary(rng: random.Random, reading: Reading) -> Question | None:
    """Everything that the text says about one subject, in the order of `RELATIONS`.

    That order makes the next sentence a matter of which relations are known, and not of where they stand.
    """
    pair = _stable(rng, reading)
    if pair is None:
        return None
    known = reading.world.known()
    pairs = [(name, pair[1]) for name in RELATIONS if (name, pair[1]) in known]
    if not 2 <= len(pairs) <= 6:
        return None
    text = rng.choice(
        (
            f"What does the text say about {pair[1]}?",
            f"Summarise what is said about {pair[1]}.",
            f"What do we know about {pair[1]}?",
        )
    )
    answer = " ".join(_sentence(reading, p) for p in pairs)
    return Question("summary", text, answer, answer, "same_sentences", evidence=tuple(pairs))


def follow_up(rng: random.Random, reading: Reading) -> Question | None:
    """A second question about the same person, who is only a pronoun in it."""
    pair = _stable(rng, reading)
    if pair is None or RELATIONS[pair[0]].subject != "person":
        return None
    again = [
        p
        for p in reading.world.known(changed=False)
        if p[1] == pair[1] and p != pair and RELATIONS[p[0]].pronoun
    ]
    if not again:
        return None
    then = rng.choice(again)
    she = is_woman(pair[1])
    text = (
        RELATIONS[then[0]]
        .pronoun.replace("{p}", "she" if she else "he")
        .replace("{o}", "her" if she else "him")
    )
    lead = _one_hop(rng, reading, pair, "one_hop", reading.ask(rng, RELATIONS[pair[0]], pair[1]))
    answer = _sentence(reading, then)
    kind = RELATIONS[then[0]].value
    return Question("follow_up", text, answer, _value(reading, then), "last_value", kind, (then,), lead)


Task = Callable[[random.Random, Reading], Question | None]
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "one_hop": one_hop,
        "brief": brief,
        "inverse": inverse,
        "two_hop": two_hop,
        "three_hop": three_hop,
        "latest": latest,
        "not_stated": not_stated,
        "yes_no": decide,
        "choice": choose,
        "count": counting,
        "select": select,
        "compare": compare,
        "json": as_json,
        "quote": quote,
        "summary": summary,
        "follow_up": follow_up,
    }
)
"""Generators by task name; each returns `None` where the world offers no such question."""


def ask(rng: random.Random, reading: Reading, task: str, attempts: int = 12) -> Question | None:
    """A question of a task, trying several times, or `None`."""
    for _ in range(attempts):
        question = TASKS[task](rng, reading)
        if question is not None:
            return question
    return None
