"""Builds the trainer of each member of the family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from engine_adapter.demo.checkpoint import load_model
from engine_adapter.demo.curriculum import CLERK_LESSONS, DRAFT_LESSONS, LESSONS, TELLER_LESSONS, Lesson
from engine_adapter.demo.family import FAMILY, MODELS, folder
from engine_adapter.demo.model import LlamaShape
from engine_adapter.demo.team import ALONE, Team
from engine_adapter.demo.tokenizer import load_tokenizer
from engine_adapter.demo.train import Trainer, TrainSettings, initial_model

_LESSONS: Mapping[str, Sequence[Lesson]] = MappingProxyType(
    {"base": LESSONS, "draft": DRAFT_LESSONS, "clerk": CLERK_LESSONS, "teller": TELLER_LESSONS}
)

_TUNING_RATE = 0.3
"""Rates of siblings relative to those of a model that starts from nothing."""


def trainer_for(
    name: str,
    settings: TrainSettings,
    *,
    parent: Path | None = None,
    log: Callable[[str], None] = print,
    team: Team = ALONE,
) -> Trainer:
    """A trainer at its first step; `parent` overrides the model that a sibling starts from."""
    if name not in FAMILY:
        raise ValueError(f"{name!r} is no model of the family; known are {', '.join(FAMILY)}")
    member = FAMILY[name]
    tokenizer = load_tokenizer(MODELS / "base")
    if parent is not None or member.parent is not None:
        start = parent if parent is not None else folder(member.parent or "base")
        model = load_model(start).train()
        settings = replace(
            settings,
            matrix_rate=settings.matrix_rate * _TUNING_RATE,
            vector_rate=settings.vector_rate * _TUNING_RATE,
        )
    else:
        shape = LlamaShape(
            tokenizer.get_vocab_size(),
            member.hidden_size,
            member.intermediate_size,
            member.num_hidden_layers,
            member.heads,
            member.heads,
        )
        model = initial_model(shape, tokenizer, settings.seed)
    return Trainer(model, tokenizer, settings, _LESSONS[member.lessons], log, team)
