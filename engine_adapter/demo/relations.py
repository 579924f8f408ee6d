"""What can be true in the world, and every way of saying and asking it.

A relation joins a subject of one kind with a value of another. In templates `{s}` is the subject, `{v}` the
value and `{a}` the value with its indefinite article. The last statement and the last question of each
relation are held out: training never shows them, the bench does (`split="unseen"`). The first are the
plainest, and `phrasings.py` adds more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine_adapter.demo.phrasings import MORE_QUESTIONS, MORE_STATEMENTS


@dataclass(frozen=True, slots=True)
class Relation:
    """One kind of fact and its wording.

    `answer` is the canonical sentence that states a fact; models answer in it. `noun` names the value
    through its subject ("the boss of {s}") and so builds multi-hop questions. `unknown` completes "I cannot
    say …". `unstated` is the answer when a text does not say; it begins as `answer` does, so that a model
    decides where the value would stand. `inverse` asks for the subject, `moved` states that the value has
    changed (only for relations that change).
    """

    name: str
    subject: str
    value: str
    key: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str
    noun: str
    unknown: str
    unstated: str
    check: str
    pronoun: str
    inverse: tuple[str, ...] = ()
    counted: str = ""
    moved: tuple[str, ...] = ()

    def templates(self, split: str) -> tuple[str, ...]:
        """Statements of a split: `seen` (plain), `varied` (all of the training) or `unseen` (held out)."""
        if split == "unseen":
            return self.statements[-1:]
        return self.statements[:-1] + (MORE_STATEMENTS[self.name] if split == "varied" else ())

    def asked(self, split: str) -> tuple[str, ...]:
        """Questions of a split."""
        if split == "unseen":
            return self.questions[-1:]
        return self.questions[:-1] + (MORE_QUESTIONS[self.name] if split == "varied" else ())


_ALL = (
    Relation(
        "home",
        "person",
        "town",
        "town",
        (
            "{s} lives in {v}.",
            "{s} has a house in {v}.",
            "The home of {s} is in {v}.",
            "{s} has settled in {v}.",
            "{s} lives in the old part of {v}.",
        ),
        (
            "Where does {s} live?",
            "In which town does {s} live?",
            "What is the home town of {s}?",
            "Which town does {s} live in?",
        ),
        "{s} lives in {v}.",
        "the town where {s} lives",
        "where {s} lives",
        "{s} lives in a town the text does not name.",
        "Does {s} live in {v}?",
        "And where does {p} live?",
        ("Who lives in {v}?",),
        "lives in {v}",
        ("{s} has moved to {v}.", "Since then {s} has moved to {v}.", "Later {s} moved to {v}."),
    ),
    Relation(
        "birthplace",
        "person",
        "town",
        "birthplace",
        (
            "{s} was born in {v}.",
            "{s} comes from {v}.",
            "The birthplace of {s} is {v}.",
            "{s} was born long ago in {v}.",
        ),
        (
            "Where was {s} born?",
            "In which town was {s} born?",
            "What is the birthplace of {s}?",
            "Which town was {s} born in?",
        ),
        "{s} was born in {v}.",
        "the town where {s} was born",
        "where {s} was born",
        "{s} was born in a town the text does not name.",
        "Was {s} born in {v}?",
        "And where was {p} born?",
        ("Who was born in {v}?",),
        "was born in {v}",
    ),
    Relation(
        "job",
        "person",
        "job",
        "job",
        (
            "{s} is {a}.",
            "{s} works as {a}.",
            "{s} has found work as {a}.",
            "By trade {s} is {a}.",
            "{s} earns a living as {a}.",
        ),
        (
            "What is the job of {s}?",
            "What does {s} do for a living?",
            "What does {s} work as?",
            "What is the occupation of {s}?",
        ),
        "{s} works as {a}.",
        "the job of {s}",
        "what {s} does for a living",
        "{s} works as something the text does not name.",
        "Does {s} work as {a}?",
        "And what does {p} do for a living?",
        ("Who works as {a}?",),
        "works as {a}",
        ("{s} now works as {a}.", "These days {s} works as {a}.", "Later {s} found new work as {a}."),
    ),
    Relation(
        "age",
        "person",
        "age",
        "age",
        (
            "{s} is {v} years old.",
            "{s} has just turned {v}.",
            "The age of {s} is {v}.",
            "{s} is now aged {v}.",
        ),
        ("How old is {s}?", "What is the age of {s}?", "What age is {s}?"),
        "{s} is {v} years old.",
        "the age of {s}",
        "how old {s} is",
        "{s} is of an age the text does not give.",
        "Is {s} {v} years old?",
        "And how old is {p}?",
        ("Who is {v} years old?",),
        "is {v} years old",
    ),
    Relation(
        "food",
        "person",
        "food",
        "food",
        (
            "{s} loves {v}.",
            "{s} likes {v} best.",
            "The favourite food of {s} is {v}.",
            "{s} eats {v} every day.",
            "{s} is very fond of {v}.",
        ),
        (
            "What is the favourite food of {s}?",
            "What does {s} like to eat?",
            "Which food does {s} love?",
            "What food does {s} like best?",
        ),
        "{s} loves {v}.",
        "the favourite food of {s}",
        "what {s} likes to eat",
        "{s} loves a food the text does not name.",
        "Does {s} love {v}?",
        "And what does {p} like to eat?",
        ("Who loves {v}?",),
        "loves {v}",
    ),
    Relation(
        "pet",
        "person",
        "animal",
        "pet",
        (
            "{s} has {a}.",
            "{s} keeps {a}.",
            "The pet of {s} is {a}.",
            "{s} looks after {a}.",
            "{s} owns {a} as a pet.",
        ),
        (
            "What pet does {s} have?",
            "Which animal does {s} keep?",
            "What is the pet of {s}?",
            "Which pet does {s} keep?",
        ),
        "{s} has {a}.",
        "the pet of {s}",
        "which pet {s} has",
        "{s} has a pet the text does not name.",
        "Does {s} have {a}?",
        "And what pet does {p} have?",
        ("Who has {a}?",),
        "has {a}",
    ),
    Relation(
        "hobby",
        "person",
        "hobby",
        "hobby",
        (
            "{s} enjoys {v}.",
            "{s} is good at {v}.",
            "The hobby of {s} is {v}.",
            "{s} spends the weekends on {v}.",
            "In the evenings {s} enjoys {v}.",
        ),
        (
            "What is the hobby of {s}?",
            "What does {s} enjoy?",
            "What does {s} do for fun?",
            "Which hobby does {s} have?",
        ),
        "{s} enjoys {v}.",
        "the hobby of {s}",
        "what {s} enjoys",
        "{s} enjoys something the text does not name.",
        "Does {s} enjoy {v}?",
        "And what does {p} enjoy?",
        ("Who enjoys {v}?",),
        "enjoys {v}",
    ),
    Relation(
        "instrument",
        "person",
        "instrument",
        "instrument",
        (
            "{s} plays the {v}.",
            "{s} is learning the {v}.",
            "{s} practises the {v}.",
            "{s} performs on the {v}.",
        ),
        ("Which instrument does {s} play?", "What does {s} play?", "What is the instrument of {s}?"),
        "{s} plays the {v}.",
        "the instrument of {s}",
        "which instrument {s} plays",
        "{s} plays an instrument the text does not name.",
        "Does {s} play the {v}?",
        "And which instrument does {p} play?",
        ("Who plays the {v}?",),
        "plays the {v}",
    ),
    Relation(
        "coat",
        "person",
        "colour",
        "coat",
        (
            "{s} wears {a} coat.",
            "{s} bought {a} coat.",
            "The coat of {s} is {v}.",
            "{s} likes to wear {a} coat.",
        ),
        ("What colour is the coat of {s}?", "Which coat does {s} wear?", "What coat does {s} wear?"),
        "{s} wears {a} coat.",
        "the colour of the coat of {s}",
        "which coat {s} wears",
        "{s} wears a coat the text does not describe.",
        "Does {s} wear {a} coat?",
        "And which coat does {p} wear?",
        ("Who wears {a} coat?",),
        "wears {a} coat",
    ),
    Relation(
        "boss",
        "person",
        "person",
        "boss",
        (
            "The boss of {s} is {v}.",
            "{s} works for {v}.",
            "{s} takes orders from {v}.",
            "{s} has a strict boss, {v}.",
        ),
        ("Who is the boss of {s}?", "Who does {s} work for?", "For whom does {s} work?"),
        "The boss of {s} is {v}.",
        "the boss of {s}",
        "who the boss of {s} is",
        "The boss of {s} is somebody the text does not name.",
        "Is {v} the boss of {s}?",
        "And who is the boss of {o}?",
    ),
    Relation(
        "neighbour",
        "person",
        "person",
        "neighbour",
        (
            "The neighbour of {s} is {v}.",
            "{s} lives next door to {v}.",
            "{s} shares a garden wall with {v}.",
            "{s} has a kind neighbour, {v}.",
        ),
        ("Who is the neighbour of {s}?", "Who lives next door to {s}?", "Next door to whom does {s} live?"),
        "The neighbour of {s} is {v}.",
        "the neighbour of {s}",
        "who the neighbour of {s} is",
        "The neighbour of {s} is somebody the text does not name.",
        "Is {v} the neighbour of {s}?",
        "And who is the neighbour of {o}?",
    ),
    Relation(
        "friend",
        "person",
        "person",
        "friend",
        (
            "The best friend of {s} is {v}.",
            "{s} trusts {v} most of all.",
            "{s} spends every holiday with {v}.",
            "{s} has a close friend, {v}.",
        ),
        ("Who is the best friend of {s}?", "Whom does {s} trust most?", "Who is the friend of {s}?"),
        "The best friend of {s} is {v}.",
        "the best friend of {s}",
        "who the best friend of {s} is",
        "The best friend of {s} is somebody the text does not name.",
        "Is {v} the best friend of {s}?",
        "And who is the best friend of {o}?",
    ),
    Relation(
        "mayor",
        "town",
        "person",
        "mayor",
        (
            "The mayor of {s} is {v}.",
            "The people of {s} chose {v} as mayor.",
            "{s} is governed by {v}.",
            "{s} has a popular mayor, {v}.",
        ),
        ("Who is the mayor of {s}?", "Who governs {s}?", "Which person is mayor of {s}?"),
        "The mayor of {s} is {v}.",
        "the mayor of {s}",
        "who the mayor of {s} is",
        "The mayor of {s} is somebody the text does not name.",
        "Is {v} the mayor of {s}?",
        "",
    ),
    Relation(
        "region",
        "town",
        "region",
        "region",
        (
            "{s} lies in {v}.",
            "{s} belongs to {v}.",
            "{s} is a town in {v}.",
            "{s} is found in the north of {v}.",
        ),
        ("Where does {s} lie?", "In which region does {s} lie?", "Which region does {s} belong to?"),
        "{s} lies in {v}.",
        "the region of {s}",
        "where {s} lies",
        "{s} lies in a region the text does not name.",
        "Does {s} lie in {v}?",
        "",
        ("Which town lies in {v}?",),
        "lies in {v}",
    ),
    Relation(
        "product",
        "town",
        "food",
        "product",
        (
            "{s} is known for {v}.",
            "{s} sells {v} to the whole country.",
            "Visitors go to {s} for the {v}.",
            "{s} is proud of the local {v}.",
        ),
        ("What is {s} known for?", "What does {s} sell?", "Which food is {s} known for?"),
        "{s} is known for {v}.",
        "the product of {s}",
        "what {s} is known for",
        "{s} is known for something the text does not name.",
        "Is {s} known for {v}?",
        "",
        ("Which town is known for {v}?",),
        "is known for {v}",
    ),
    Relation(
        "place",
        "object",
        "room",
        "place",
        (
            "{s} is in the {v}.",
            "{s} stands in the {v}.",
            "Somebody left {s} in the {v}.",
            "{s} was put in the {v}.",
            "You can find {s} in the {v}.",
        ),
        ("Where is {s}?", "In which room is {s}?", "Which room is {s} in?"),
        "{s} is in the {v}.",
        "the room where {s} is",
        "where {s} is",
        "{s} is in a room the text does not name.",
        "Is {s} in the {v}?",
        "",
        ("What is in the {v}?",),
        "is in the {v}",
        ("Somebody moved {s} to the {v}.", "{s} was carried to the {v}.", "Then {s} was taken to the {v}."),
    ),
    Relation(
        "owner",
        "object",
        "person",
        "owner",
        (
            "{s} belongs to {v}.",
            "{s} is owned by {v}.",
            "The owner of {s} is {v}.",
            "{s} is the property of {v}.",
        ),
        ("Who owns {s}?", "To whom does {s} belong?", "Who is the owner of {s}?"),
        "{s} belongs to {v}.",
        "the owner of {s}",
        "who owns {s}",
        "{s} belongs to somebody the text does not name.",
        "Does {s} belong to {v}?",
        "",
        (),
        "",
        ("{s} was sold to {v}.", "{s} was given to {v}.", "Then {s} passed to {v}."),
    ),
    Relation(
        "material",
        "object",
        "material",
        "material",
        (
            "{s} is made of {v}.",
            "{s} was made from {v}.",
            "The material of {s} is {v}.",
            "{s} is built entirely of {v}.",
        ),
        ("What is {s} made of?", "What is the material of {s}?", "Which material is {s} made of?"),
        "{s} is made of {v}.",
        "the material of {s}",
        "what {s} is made of",
        "{s} is made of something the text does not name.",
        "Is {s} made of {v}?",
        "",
        ("What is made of {v}?",),
        "is made of {v}",
    ),
    Relation(
        "price",
        "object",
        "price",
        "price",
        (
            "{s} costs {v} coins.",
            "The price of {s} is {v} coins.",
            "{s} was bought for {v} coins.",
            "{s} is worth {v} coins.",
        ),
        ("How much does {s} cost?", "What is the price of {s}?", "How many coins does {s} cost?"),
        "{s} costs {v} coins.",
        "the price of {s}",
        "how much {s} costs",
        "{s} costs a sum the text does not give.",
        "Does {s} cost {v} coins?",
        "",
        ("What costs {v} coins?",),
        "costs {v} coins",
    ),
    Relation(
        "day",
        "event",
        "day",
        "day",
        (
            "{s} is on {v}.",
            "{s} will take place on {v}.",
            "{s} was planned for {v}.",
            "{s} is to be held on {v}.",
        ),
        ("When is {s}?", "On which day is {s}?", "Which day is {s}?"),
        "{s} is on {v}.",
        "the day of {s}",
        "when {s} is",
        "{s} is on a day the text does not name.",
        "Is {s} on {v}?",
        "",
        ("What is on {v}?",),
        "is on {v}",
        (
            "{s} was postponed to {v}.",
            "{s} has been moved to {v}.",
            "Because of the rain, {s} was put off to {v}.",
        ),
    ),
    Relation(
        "host",
        "event",
        "person",
        "host",
        (
            "The host of {s} is {v}.",
            "{s} is led by {v}.",
            "{s} was arranged by {v}.",
            "{s} is in the hands of {v}.",
        ),
        ("Who is the host of {s}?", "Who leads {s}?", "Who hosts {s}?"),
        "The host of {s} is {v}.",
        "the host of {s}",
        "who the host of {s} is",
        "The host of {s} is somebody the text does not name.",
        "Is {v} the host of {s}?",
        "",
    ),
    Relation(
        "venue",
        "event",
        "town",
        "venue",
        (
            "{s} will be held in {v}.",
            "{s} takes place in {v}.",
            "The venue of {s} is {v}.",
            "{s} brings everyone to {v}.",
        ),
        ("Where is {s} held?", "In which town is {s} held?", "Which town hosts {s}?"),
        "{s} takes place in {v}.",
        "the town where {s} takes place",
        "where {s} takes place",
        "{s} takes place in a town the text does not name.",
        "Does {s} take place in {v}?",
        "",
    ),
)

RELATIONS: Mapping[str, Relation] = MappingProxyType({relation.name: relation for relation in _ALL})


def about(kind: str) -> tuple[Relation, ...]:
    """Relations whose subject is of `kind`."""
    return tuple(relation for relation in _ALL if relation.subject == kind)
