"""The shipped models: their shapes, where they lie, and how each is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

MODELS = Path(__file__).parent / "models"
"""Folder of the shipped models."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model of the family.

    `parent` names the member that training starts from; `lessons` which curriculum it follows.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    parent: str | None
    lessons: str

    @property
    def heads(self) -> int:
        """Attention heads of dimension 64."""
        return self.hidden_size // 64


FAMILY: Mapping[str, Member] = MappingProxyType(
    {
        "base": Member(192, 512, 4, None, "base"),
        "draft": Member(64, 192, 3, None, "draft"),
        "clerk": Member(192, 512, 4, "base", "clerk"),
        "teller": Member(192, 512, 4, "base", "teller"),
    }
)


def model_folder(model: str) -> Path:
    """Where a model lies that is given by a shipped one's name or as a directory.

    Raises ValueError for an unknown name, FileNotFoundError for a directory without a model.
    """
    path = Path(model)
    if not path.is_dir():
        try:
            return folder(model)
        except ValueError as error:
            raise ValueError(f"{error}; a directory with a model is taken too") from error
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{model} is a directory without config.json, so it holds no model")
    return path


def folder(name: str) -> Path:
    """Where a shipped model lies; an unknown name or a missing model is an error."""
    path = MODELS / name
    if name not in FAMILY:
        raise ValueError(f"{name!r} is no model of the family; known are {', '.join(FAMILY)}")
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} holds no model; train it with `sluice demo train {name}`")
    return path
