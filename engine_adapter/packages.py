"""Sluice's package names are plain words; another distribution may bring a package of the same name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

OUR_PACKAGES = ("gateway", "engine_adapter", "cache", "kernels")


def _folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))).resolve() if places else None


def shadowed_package(folder_of: Callable[[str], Path | None] = _folder) -> str | None:
    """Why one of our packages is not ours, in words, or None. Looks at the import path only, so it is quick.

    `sluice doctor` looks into the metadata of all distributions and names the culprit.
    """
    home = folder_of(OUR_PACKAGES[0])
    for name in OUR_PACKAGES[1:]:
        folder = folder_of(name)
        if home is not None and (folder is None or folder.parent != home.parent):
            where = folder or "nowhere"
            return (
                f"Python finds package `{name}` at {where} instead of beside {home}: another program brings "
                "a package of that name. Give Sluice an environment of its own, or see `sluice doctor`"
            )
    return None
