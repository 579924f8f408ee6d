"""Settings in layers: YAML file, then environment, then flags; each value remembers where it came from.

A wrong value is reported with its place: `sluice.yaml:12`, `SLUICE_LISTEN__PORT` or `--port`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str, ...]

ENV_PREFIX = "SLUICE_"
ENV_DELIMITER = "__"


class SettingsError(ValueError):
    """The settings are wrong; `problems` has one line for each mistake, with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(slots=True)
class Layer:
    """One source of settings: nested values, and for each key where it was written."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)

    def put(self, path: KeyPath, value: Any, place: str) -> None:
        """Set one value. Raises SettingsError where a value and a section would need the same name."""
        section = self.values
        for depth, key in enumerate(path[:-1], start=1):
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise SettingsError([f"{place}: {'.'.join(path[:depth])} is set as a value already"])
        section[path[-1]] = value
        self.places[path] = place


def yaml_layer(file: Path) -> Layer:
    """The settings of a YAML file.

    Raises SettingsError for a file that cannot be read, is not YAML, is not a mapping or says a key twice.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError([f"{file}: cannot read the settings file: {reason}"]) from error
    layer = Layer()
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return layer
        if not isinstance(node, yaml.MappingNode):
            raise SettingsError([f"{file}:{node.start_mark.line + 1}: expected sections such as `listen:`"])
        layer.values = _mapping(loader, node, file, (), layer.places)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError([f"{file}:{line}: not valid YAML: {error.problem}"]) from error
    finally:
        loader.dispose()
    return layer


def _mapping(
    loader: yaml.SafeLoader,
    node: yaml.MappingNode,
    file: Path,
    path: KeyPath,
    places: dict[KeyPath, str],
) -> dict[str, Any]:
    loader.flatten_mapping(node)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        place = f"{file}:{key_node.start_mark.line + 1}"
        here = (*path, key)
        if here in places:
            raise SettingsError([f"{place}: {'.'.join(here)} is set twice, first at {places[here]}"])
        places[here] = place
        if isinstance(value_node, yaml.MappingNode):
            values[key] = _mapping(loader, value_node, file, here, places)
        else:
            values[key] = loader.construct_object(value_node, deep=True)
    return values


def env_layer(environ: Mapping[str, str]) -> Layer:
    """The settings among environment variables: `SLUICE_SECTION__KEY`, lists and mappings as JSON or YAML."""
    layer = Layer()
    for name in sorted(environ):
        if not name.upper().startswith(ENV_PREFIX) or ENV_DELIMITER not in name:
            continue
        text = environ[name]
        value: Any = text
        if text.lstrip().startswith(("[", "{")):
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise SettingsError([f"{name}: not a JSON list or mapping: {text}"]) from error
        path = tuple(part.lower() for part in name[len(ENV_PREFIX) :].split(ENV_DELIMITER))
        layer.put(path, value, name)
    return layer


def layers_of(file: Path | None, environ: Mapping[str, str]) -> list[Layer]:
    """File and environment, in the order in which they win. Raises SettingsError."""
    layers = [] if file is None else [yaml_layer(file)]
    return [*layers, env_layer(environ)]


def merge(layers: Iterable[Layer]) -> Layer:
    """One layer out of several, later ones winning. Sections are merged, everything else is replaced."""
    merged = Layer()
    for layer in layers:
        merged.values = _merged(merged.values, layer.values)
        merged.places |= layer.places
    return merged


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def place_of(path: KeyPath, places: Mapping[KeyPath, str]) -> str:
    """Where the value at `path`, or the section that holds it, was written."""
    for length in range(len(path), 0, -1):
        if place := places.get(path[:length]):
            return place
    # A section may be known only by what is in it, as in the environment.
    return next((place for key, place in places.items() if key[: len(path)] == path), "defaults")


def near_names(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name.replace("-", "_"), list(known), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
