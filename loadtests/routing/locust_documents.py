"""Locust users who ask about documents that many share: what a worker has read it need not read again.

Used by `python -m loadtests.routing.over_vllm`. Environment: SLUICE_DOCUMENTS (how many), SLUICE_FACTS
(sentences of each), SLUICE_SEED; the rest as in `loadtests/locustfile.py`.
"""

from __future__ import annotations

import os
import random
from typing import Any

from locust import events

from loadtests import locustfile

DOCUMENTS = int(os.environ.get("SLUICE_DOCUMENTS", "12"))
FACTS = int(os.environ.get("SLUICE_FACTS", "200"))
_PEOPLE = ("Nora", "Percy", "Elise")
_THINGS = ("lamp", "shawl", "drum")
_ROOMS = ("kitchen", "hallway")


@events.test_start.add_listener
def _repeatable(**_: Any) -> None:
    random.seed(int(os.environ.get("SLUICE_SEED", "0")))


def document(number: int) -> str:
    """Text number `number`, different from the first words on and always the same."""
    draw = random.Random(number)
    facts = (
        f"{draw.choice(_PEOPLE)} put the {draw.choice(_THINGS)} in the {draw.choice(_ROOMS)}."
        for _ in range(FACTS)
    )
    return f"{number} coins. " + " ".join(facts)


class Reader(locustfile.ChatUser):
    """One conversation after another, each about some document."""

    def _begin(self) -> None:
        self.messages = [{"role": "system", "content": document(random.randrange(DOCUMENTS))}]
