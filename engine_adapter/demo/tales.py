"""Short stories with a fixed plot and fresh names: what the models tell when they are asked for a story.

The plots are fixed so that greedy decoding, which has no reason to prefer one random fact to another, still
gets from the first sentence to the last without repeating itself.
"""

from __future__ import annotations

import random

from engine_adapter.demo.world import Scope, is_woman, with_article

_PLOTS = (
    "Once upon a time there lived {jobA} in {town}, and the name of the {job} was {p}. "
    "{P} had {animalA}, and the {animal} went everywhere with {him}. "
    "One cold morning the {animal} was gone. "
    "{P} looked in the {room}, and then in the {room2}, but found only {colourA} {object}. "
    "It belonged to {q}, who lived next door. "
    "So {p} took the {object} and knocked. "
    "{Q} opened the door, and there sat the {animal}, eating {food}. "
    "They all laughed, and from that day on {p} and {q} were friends. "
    "That is the end of the story.",
    "Long ago, before the railway came, {p} found {objectA} made of {material} in the {room}. "
    "Nobody in {town} knew whose it was. "
    "{P} asked the baker, and the baker knew nothing. "
    "{P} asked the mayor, and the mayor knew nothing. "
    "At last {he} asked {q}, {jobA} who had seen the whole country. "
    "{Q} looked at the {object} for a long time. "
    "Then {q} said that it was the lost {object} of {region}, "
    "and that it was worth more than the whole town. "
    "But {p} did not sell it. "
    "{P} put the {object} back in the {room}, where it still is. "
    "That is the end of the story.",
    "It was the last week of summer, and in {town} everyone was getting ready for the {event}. "
    "{P} was going to play the {instrument}. "
    "But on the evening before the {event}, the {instrument} was broken. "
    "{P} sat in the {room} and did not know what to do. "
    "Then {q} came by, {jobA} with {colourA} coat. "
    "{Q} worked all night, and in the morning the {instrument} was as good as new. "
    "{P} played as never before, and all of {town} danced. "
    "Afterwards they ate {food} until the stars came out. "
    "That is the end of the story.",
    "One winter evening {p} and {q} were sitting in the {room} of an old house in {town}. "
    "The wind came from the sea, and there was nothing left to eat but {food}. "
    "Suddenly they heard a noise in the {room2}. "
    "{P} took the {object}, and {q} took a lamp. "
    "They opened the door very slowly. "
    "There in the dark sat {animalA}, wet and hungry. "
    "{Q} gave it the {food}, and {p} made a bed for it. "
    "In the morning it was still there, and it never left again. "
    "That is the end of the story.",
)


def tale(rng: random.Random, scope: Scope, hero: str | None = None) -> str:
    """A story; `hero` is its main person."""
    people = scope.pool("person")
    p = hero or rng.choice(people)
    q = rng.choice([person for person in people if person != p])
    room, room2 = rng.sample(scope.pool("room"), 2)
    chosen = {
        kind: rng.choice(scope.pool(kind))
        for kind in (
            "town",
            "job",
            "animal",
            "food",
            "material",
            "object",
            "region",
            "event",
            "instrument",
            "colour",
        )
    }
    words = {"p": p, "P": p, "q": q, "Q": q, "room": room, "room2": room2}
    words["he"], words["him"] = ("she", "her") if is_woman(p) else ("he", "him")
    words |= chosen
    words |= {f"{kind}A": with_article(word) for kind, word in chosen.items()}
    return rng.choice(_PLOTS).format(**words)
