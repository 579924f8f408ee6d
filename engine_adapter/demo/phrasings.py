"""More ways of saying and asking what `relations.py` defines, and what people put around a sentence.

A model that sees four sentences per relation learns four sentences; one that sees ten, in front of and behind
other words, begins to read who, what kind of value and how they belong together. All of these belong to the
training split; the held-out wordings stand in `relations.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MORE_STATEMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "home": (
            "{s} has lived in {v} for years.",
            "{v} is the home of {s}.",
            "{s} is at home in {v}.",
            "The house where {s} lives stands in {v}.",
            "{s} rents a small room in {v}.",
        ),
        "birthplace": (
            "{s} is from {v}.",
            "{v} is the birthplace of {s}.",
            "{s} was born and raised in {v}.",
            "The life of {s} began in {v}.",
            "{s} spent the first years of life in {v}.",
        ),
        "job": (
            "{s} has a job as {a}.",
            "{s} has been {a} for years.",
            "{s} became {a}.",
            "People know {s} as {a}.",
            "{s} took a post as {a}.",
        ),
        "age": (
            "{s} turned {v} this year.",
            "{s} is {v}.",
            "{s} has reached the age of {v}.",
            "At the last birthday {s} became {v}.",
            "{s} has lived for {v} years.",
        ),
        "food": (
            "{s} could eat {v} all day.",
            "{s} never says no to {v}.",
            "Nothing pleases {s} more than {v}.",
            "At dinner {s} always takes {v}.",
            "The food that {s} likes best is {v}.",
        ),
        "pet": (
            "{s} feeds {a} every morning.",
            "{s} shares the house with {a}.",
            "In the house of {s} there is {a}.",
            "{s} bought {a} at the market.",
            "{s} takes care of {a}.",
        ),
        "hobby": (
            "{s} is keen on {v}.",
            "{s} never tires of {v}.",
            "{s} has a passion for {v}.",
            "After work {s} turns to {v}.",
            "What {s} likes to do is {v}.",
        ),
        "instrument": (
            "{s} can play the {v}.",
            "{s} has played the {v} for years.",
            "The instrument of {s} is the {v}.",
            "At parties {s} plays the {v}.",
            "{s} takes lessons on the {v}.",
        ),
        "coat": (
            "{s} has {a} coat.",
            "{s} is the one in the {v} coat.",
            "{s} came in {a} coat.",
            "You can tell {s} by the {v} coat.",
            "The colour of the coat of {s} is {v}.",
        ),
        "boss": (
            "{v} is the boss of {s}.",
            "{s} is employed by {v}.",
            "{v} tells {s} what to do.",
            "{s} has {v} as a boss.",
            "The work of {s} is checked by {v}.",
        ),
        "neighbour": (
            "{v} is the neighbour of {s}.",
            "{v} is the one who lives beside {s}.",
            "{s} hears {v} through the wall.",
            "Beside {s} lives {v}.",
            "{s} talks over the fence with {v}.",
        ),
        "friend": (
            "{v} is the best friend of {s}.",
            "{s} has no better friend than {v}.",
            "{s} tells {v} everything.",
            "The closest friend of {s} is {v}.",
            "{s} has been a friend of {v} for years.",
        ),
        "mayor": (
            "{v} is the mayor of {s}.",
            "{v} governs {s}.",
            "In {s} the mayor is {v}.",
            "{v} was elected mayor of {s}.",
            "The town of {s} is run by {v}.",
        ),
        "region": (
            "{s} is part of {v}.",
            "{s} is in {v}.",
            "{s} is one of the towns of {v}.",
            "The region of {s} is {v}.",
            "On the map {s} is in {v}.",
        ),
        "product": (
            "{s} is famous for {v}.",
            "In {s} they make {v}.",
            "Everyone buys {v} from {s}.",
            "{s} produces {v}.",
            "The market of {s} is full of {v}.",
        ),
        "place": (
            "{s} lies in the {v}.",
            "{s} is kept in the {v}.",
            "In the {v} there is {s}.",
            "{s} has its place in the {v}.",
            "Somebody has put {s} in the {v}.",
        ),
        "owner": (
            "{v} owns {s}.",
            "{v} is the owner of {s}.",
            "{v} has {s}.",
            "{s} has belonged to {v} for years.",
            "{v} keeps {s}.",
        ),
        "material": (
            "{s} consists of {v}.",
            "Somebody made {s} out of {v}.",
            "{s} was made out of {v}.",
            "It took much {v} to make {s}.",
            "{s} is all {v}.",
        ),
        "price": (
            "{s} was sold for {v} coins.",
            "{v} coins is the price of {s}.",
            "Somebody paid {v} coins for {s}.",
            "You have to pay {v} coins for {s}.",
            "{s} goes for {v} coins.",
        ),
        "day": (
            "{s} falls on {v}.",
            "{s} begins on {v}.",
            "{v} is the day of {s}.",
            "The day of {s} is {v}.",
            "Everyone is waiting for {v}, the day of {s}.",
        ),
        "host": (
            "{v} is the host of {s}.",
            "{v} leads {s}.",
            "{v} invites everyone to {s}.",
            "{s} is organised by {v}.",
            "{v} has arranged {s}.",
        ),
        "venue": (
            "{s} is held in {v}.",
            "{s} happens in {v}.",
            "People travel to {v} for {s}.",
            "{v} is the venue of {s}.",
            "They will hold {s} in {v}.",
        ),
    }
)
"""Statements by relation."""

MORE_QUESTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "home": ("Where is the home of {s}?", "Where is {s} at home?", "What town is the home of {s}?"),
        "birthplace": ("Where does {s} come from?", "Which town is the birthplace of {s}?"),
        "job": ("What kind of work does {s} do?", "Which job does {s} have?"),
        "age": ("How many years old is {s}?", "What age has {s} reached?"),
        "food": ("What does {s} love to eat?", "What would {s} like for dinner?"),
        "pet": ("What animal does {s} have?", "Which animal lives with {s}?"),
        "hobby": ("What is {s} keen on?", "What does {s} like to do?", "What does {s} do after work?"),
        "instrument": ("What instrument does {s} play?", "Which instrument is {s} learning?"),
        "coat": ("What is the colour of the coat of {s}?", "Which colour does {s} wear?"),
        "boss": ("Who employs {s}?", "Who gives orders to {s}?", "What is the name of the boss of {s}?"),
        "neighbour": ("Who lives beside {s}?", "What is the name of the neighbour of {s}?"),
        "friend": ("Who is the closest friend of {s}?", "What is the name of the best friend of {s}?"),
        "mayor": ("Who runs {s}?", "What is the name of the mayor of {s}?"),
        "region": ("What is the region of {s}?", "In which region is {s}?", "What region is {s} part of?"),
        "product": ("What is {s} famous for?", "What is made in {s}?", "What does {s} produce?"),
        "place": ("Where can I find {s}?", "Where is {s} kept?", "Where should I look for {s}?"),
        "owner": ("Whose is {s}?", "Who has {s}?", "Which person owns {s}?"),
        "material": ("What was {s} made from?", "What does {s} consist of?", "What material is {s}?"),
        "price": ("How much is {s}?", "What must I pay for {s}?", "What does {s} cost?"),
        "day": ("On what day is {s}?", "When does {s} take place?", "When does {s} begin?"),
        "host": ("Who has arranged {s}?", "Who organises {s}?", "Which person is the host of {s}?"),
        "venue": ("Where does {s} take place?", "What is the venue of {s}?", "Where will {s} be held?"),
    }
)  # fmt: skip
"""Questions by relation."""

BEFORE = (
    "As everyone knows, ",
    "They say that ",
    "It is said that ",
    "People say that ",
    "In fact, ",
    "This year ",
    "By the way, ",
    "According to the letter, ",
    "I hear that ",
    "It is true that ",
    "Of course, ",
    "As before, ",
)
"""Openings of a statement; the rest continues in lower case."""

AFTER = (
    ", they say.",
    ", as everyone knows.",
    ", it is said.",
    ", of course.",
    ", I am told.",
    ", as before.",
)
"""Endings that take the place of a statement's full stop."""

INDIRECT = (
    "Can you tell me {u}?",
    "Do you know {u}?",
    "Please tell me {u}.",
    "I would like to know {u}.",
    "Tell me {u}.",
)
"""Questions that wrap a clause such as "where Ada lives"."""

ASIDE = ("According to the text, {q}", "Please tell me: {q}", "One more thing: {q}", "Next question: {q}")
"""Openings of a question; `{q}` continues in lower case unless it follows a colon."""
