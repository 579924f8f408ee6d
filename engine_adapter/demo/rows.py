"""Training rows: token ids of a fixed length with a role for every token that is to be predicted.

Roles (of the token itself, not of its predecessor): `SILENT` is never predicted, `TEXT` belongs to a
document, `ANSWER` to a reply, `RECALLED` is a word of a reply that its question does not contain, so it had
to be read in the document, and `DECIDED` is a word that concludes (yes, no, a letter, a count, that the text
does not say). Accuracy on `RECALLED` is what the curriculum watches.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tokenizers import Tokenizer

from engine_adapter.demo.chat import BOS, END, PAD, ROLES, Segment
from engine_adapter.demo.documents import Document, Wording, write
from engine_adapter.demo.lexicon import KINDS, distinct_words
from engine_adapter.demo.relations import RELATIONS
from engine_adapter.demo.smalltalk import (
    PERSONAS,
    READ,
    off_topic,
    question_without_text,
    small_talk,
    story_request,
)
from engine_adapter.demo.tasks import TASKS, Question, Reading, ask
from engine_adapter.demo.tokenizer import special_id, twins
from engine_adapter.demo.world import Scope, World, build_world

SILENT, TEXT, ANSWER, RECALLED, DECIDED = range(5)
TOKENS_PER_FACT = 10.5
"""Measured mean length of a fact in a document, distractors included."""

_FRAMES = (
    "{d}\n\n{q}",
    "{d}\n\nQuestion: {q}",
    "Text: {d}\n\nQuestion: {q}",
    "Read this text.\n\n{d}\n\n{q}",
    "{q}\n\n{d}",
)


@dataclass(slots=True)
class Row:
    """Parallel lists of equal length."""

    ids: list[int]
    roles: list[int]

    def fit(self, length: int, pad: int) -> Row:
        """Cut or pad to a length."""
        missing = length - len(self.ids)
        if missing > 0:
            return Row(self.ids + [pad] * missing, self.roles + [SILENT] * missing)
        return Row(self.ids[:length], self.roles[:length])


@dataclass(frozen=True, slots=True)
class Mix:
    """What the chats of a row are about: weights by task, and how wide the world is."""

    tasks: Mapping[str, float]
    scope: Scope = Scope()
    filler: float = 0.15
    document_share: tuple[float, float] = (0.35, 0.75)
    split: str = "seen"


class RowWriter:
    """Writes rows with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pad, self.bos, self.end = (special_id(tokenizer, t) for t in (PAD, BOS, END))
        self._role_ids = {role: special_id(tokenizer, f"<|{role}|>") for role in ROLES}
        self._twin = dict(twins(tokenizer))
        self._bare = {b: a for a, b in twins(tokenizer)}
        vocab = tokenizer.get_vocab()
        self._words = [vocab["\u0120" + w] for w in sorted(distinct_words())]
        self._lexicon = {*self._words, *(self._twin[w] for w in self._words)}
        self._names = [vocab["\u0120" + w] for kind in ("person", "town", "object") for w in KINDS[kind]]
        self._keys = [vocab["\u0120" + relation.key] for relation in RELATIONS.values()]

    def encode(self, text: str) -> list[int]:
        """Ids of a text without special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def pairs(self, rng: random.Random, length: int, words: int, pairs: int, twins: float = 0.0) -> Row:
        """Key-value pairs, then the same pairs in random order until the row is full: bare recall.

        Keys and values come from disjoint sets of `words` words each; a share `twins` of the queries uses
        the forms without a space.
        """
        pool = _spread(self._words, 2 * words)
        keys = rng.sample(pool[::2], min(pairs, len(pool) // 2))
        table = [(key, rng.choice(pool[1::2])) for key in keys]
        ids, roles = [self.bos], [SILENT]
        for key, value in table:
            ids += (key, value)
            roles += (SILENT, SILENT)
        ids.append(self.end)
        roles.append(SILENT)
        while len(ids) < length:
            key, value = rng.choice(table)
            if rng.random() < twins:
                key, value = self._twin[key], self._twin[value]
            ids += (key, value)
            roles += (SILENT, RECALLED)
        return Row(ids, roles).fit(length, self.pad)

    def triples(self, rng: random.Random, length: int, names: int, keys: int, facts: int) -> Row:
        """Facts `name … key … value` with stray words between; queries give name and key."""
        name_pool = _spread(self._names, names)
        subjects = rng.sample(name_pool, min(len(name_pool), max(2, facts // 3)))
        cells = [(s, k) for s in subjects for k in self._keys[:keys]]
        table = [(s, k, rng.choice(self._words)) for s, k in rng.sample(cells, min(facts, len(cells)))]
        stray = self._words[::7] if names >= len(self._names) else self._words[::97]
        ids, roles = [self.bos], [SILENT]
        for subject, key, value in table:
            first, second = (subject, key) if rng.random() < 0.7 else (key, subject)
            parts = [
                first,
                *rng.choices(stray, k=rng.randint(0, 2)),
                second,
                *rng.choices(stray, k=rng.randint(0, 1)),
            ]
            ids += [*parts, value]
            roles += [SILENT] * (len(parts) + 1)
            ids.append(self.end)
            roles.append(SILENT)
        while len(ids) < length:
            subject, key, value = rng.choice(table)
            if rng.random() < 0.3:
                subject, value = self._twin[subject], self._twin[value]
            ids += (self._role_ids["user"], subject, key, value)
            roles += (SILENT, SILENT, SILENT, RECALLED)
        return Row(ids, roles).fit(length, self.pad)

    def comparisons(self, rng: random.Random, length: int) -> Row:
        """Questions which of two numbers is more or less: the order of numbers, without a text to read."""
        row = Row([self.bos], [SILENT])
        while len(row.ids) < length:
            pair = rng.sample(range(100), 2)
            most = rng.random() < 0.5
            best, loser = (max(pair), min(pair)) if most else (min(pair), max(pair))
            ask, how = ("more", "less") if most else ("less", "more")
            opening = rng.choice((f"Which is {ask}, ", f"What is {ask}: "))
            reply = f"{loser} is {how} than {best}, so {best}."
            text = f"{opening}{pair[0]} or {pair[1]}?"
            self._turn(row, Question("compare", text, reply, "", "", decisive=(str(loser), str(best))), None)
        return row.fit(length, self.pad)

    def repeats(self, rng: random.Random, length: int, words: int) -> Row:
        """A random sequence repeated: feeds the copying circuit."""
        span = rng.randint(length // 6, length // 3)
        pool = _spread(self._words, 2 * words)
        piece = rng.sample(pool, min(span, len(pool)))
        span = len(piece)
        ids = [self.bos] + piece * (length // span + 1)
        roles = [SILENT] * (span + 2) + [RECALLED] * (len(ids) - span - 2)
        return Row(ids, roles).fit(length, self.pad)

    def talk(self, rng: random.Random, length: int, scope: Scope) -> Row:
        """Short conversations without a document, one after another."""
        row = Row([], [])
        while len(row.ids) < length:
            row.ids.append(self.bos)
            row.roles.append(SILENT)
            if rng.random() < 0.4:
                self._add(row, Segment("system", rng.choice(PERSONAS)), SILENT)
            for _ in range(rng.choice((1, 1, 2, 3))):
                draw = rng.random()
                if draw < 0.45:
                    asked, reply = small_talk(rng)
                elif draw < 0.6:
                    asked, reply = off_topic(rng)
                elif draw < 0.75:
                    asked, reply = question_without_text(rng, scope)
                else:
                    asked, reply = story_request(rng, scope)
                self._add(row, Segment("user", asked), SILENT)
                self._add(row, Segment("assistant", reply), ANSWER)
        return row.fit(length, self.pad)

    def chat(self, rng: random.Random, length: int, mix: Mix) -> Row:
        """Documents of a fresh world and questions about them until the row is full."""
        share = rng.uniform(*mix.document_share)
        facts = max(3, round((length * share - 20) / (TOKENS_PER_FACT + 8 * max(0.0, mix.filler - 0.15))))
        reading = read(rng, build_world(rng, facts, mix.scope), mix)
        row = Row([self.bos], [SILENT])
        frame = self._open(rng, row, reading.documents)
        names, weights = zip(*mix.tasks.items(), strict=True)
        misses = 0
        asked_before: set[str] = set()
        while len(row.ids) < length and misses < 40:
            question = ask(rng, reading, rng.choices(names, weights)[0], attempts=4)
            if question is None or question.text in asked_before:
                misses += 1
                continue
            asked_before.add(question.text)
            if question.lead is not None:
                self._turn(row, question.lead, frame)
                frame = None
            self._turn(row, question, frame)
            frame = None
            if rng.random() < 0.02:
                asked, reply = small_talk(rng)
                self._add(row, Segment("user", asked), SILENT)
                self._add(row, Segment("assistant", reply), ANSWER)
        return row.fit(length, self.pad)

    def _open(self, rng: random.Random, row: Row, documents: Sequence[Document]) -> tuple[str, str] | None:
        """Place the documents; returns a frame and a text if they belong into the first question."""
        if rng.random() < 0.35:
            self._add(row, Segment("system", rng.choice(PERSONAS)), SILENT)
        place = rng.random()
        if place < 0.5 or len(documents) > 1:
            for document in documents:
                title = f"{document.title}\n" if rng.random() < 0.5 else ""
                self._add(row, Segment("document", title + document.text), TEXT)
            return None
        if place < 0.58:
            self._add(row, Segment("system", documents[0].text), TEXT)
            return None
        if place < 0.64:
            self._add(row, Segment("user", documents[0].text), TEXT)
            self._add(row, Segment("assistant", rng.choice(READ)), ANSWER)
            return None
        return rng.choices(_FRAMES, (4, 2, 2, 2, 1))[0], documents[0].text

    def _turn(self, row: Row, question: Question, frame: tuple[str, str] | None) -> None:
        asked = self.encode(question.text)
        if frame is None:
            row.ids += [self._role_ids["user"], *asked, self.end]
            row.roles += [SILENT] * (len(asked) + 2)
        else:
            text = frame[0].replace("{q}", question.text).replace("{d}", frame[1])
            self._add(row, Segment("user", text), TEXT)
        in_question = {self._bare.get(i, i) for i in asked}
        reply = self.encode(question.answer)
        row.ids += [self._role_ids["assistant"], *reply, self.end]
        row.roles.append(SILENT)
        decisive = {token for word in question.decisive for token in self.encode(f" {word}")}
        for token in reply:
            known = self._bare.get(token, token)
            recalled = token in self._lexicon and known not in in_question
            row.roles.append(RECALLED if recalled else DECIDED if known in decisive else ANSWER)
        row.roles.append(ANSWER)

    def _add(self, row: Row, segment: Segment, role: int) -> None:
        ids = self.encode(segment.text.strip())
        row.ids += [self._role_ids[segment.role], *ids, self.end]
        row.roles += [SILENT, *[role] * len(ids), role]


def _spread(pool: list[int], count: int) -> list[int]:
    """About `count` members spread over a pool, or all."""
    return pool if count >= len(pool) else pool[:: len(pool) // count][:count]


def read(rng: random.Random, world: World, mix: Mix) -> Reading:
    """Tell a world in one document or, if it is large enough, sometimes in several."""
    wording = Wording(split=mix.split, scope=mix.scope, fillers=mix.filler)
    parts = rng.choice((1, 1, 2, 3, 4)) if len(world.facts) >= 16 and mix.scope.phrasings is None else 1
    facts = [world.facts[i::parts] for i in range(parts)] if parts > 1 else [world.facts]
    if parts > 1 and world.known(changed=True):
        facts = [world.facts]
    return Reading(world, tuple(write(rng, world, wording, facts=part) for part in facts), mix.split)


ALL_TASKS: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(TASKS, 1.0),
        "one_hop": 5.0,
        "brief": 1.5,
        "inverse": 2.5,
        "latest": 1.5,
        "compare": 2.0,
        "not_stated": 4.0,
        "yes_no": 2.5,
        "choice": 2.0,
        "json": 2.5,
        "quote": 1.5,
        "summary": 1.5,
    }
)
"""Weights of the full mixture: more of what has no sentence to lean on."""
