"""`sluice settings`: every setting with its meaning and its value here, as a YAML file to start from."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from gateway.cli.flags import ConfigOption, fail
from gateway.config import KeyPath, Layer, SettingsError, layers_of, merge
from gateway.settings import Settings, load

app = typer.Typer(add_completion=False)

_WIDTH = 100


@app.command()
def settings(config: ConfigOption = None) -> None:
    """Show every setting, what it means and what it is now, with the place it comes from.

        sluice settings > sluice.yaml

    makes a file to edit; `sluice serve --config sluice.yaml` reads it. With `--config` the file is checked.
    """
    try:
        found = load(config, os.environ, Layer())
        places = merge(layers_of(config, os.environ)).places
    except SettingsError as error:
        fail(*error.problems)
    for line in reference(found, places):
        typer.echo(line)


def reference(settings: Settings, places: Mapping[KeyPath, str] | None = None) -> Iterator[str]:
    """Lines of YAML: each setting under its explanation; its place follows where it is not a default."""
    for name in type(settings).model_fields:
        yield from _section(name, getattr(settings, name), (name,), places or {})
        yield ""


def attribute_docs(section: type) -> dict[str, str]:
    """The strings that stand below a dataclass's fields in its source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[field.target.id] = " ".join(str(below.value.value).split())
    return docs


def _section(name: str, value: Any, path: KeyPath, places: Mapping[KeyPath, str]) -> Iterator[str]:
    indent = "  " * (len(path) - 1)
    yield f"{indent}{name}:"
    docs = attribute_docs(type(value))
    for field in dataclasses.fields(value):
        inner, here = getattr(value, field.name), (*path, field.name)
        if doc := docs.get(field.name):
            yield from textwrap.wrap(
                doc, _WIDTH, initial_indent=f"{indent}  # ", subsequent_indent=f"{indent}  # "
            )
        if dataclasses.is_dataclass(inner):
            yield from _section(field.name, inner, here, places)
        else:
            place = f"  # {places[here]}" if here in places else ""
            yield f"{indent}  {field.name}: {_as_yaml(inner)}{place}"


def _as_yaml(value: Any) -> str:
    """JSON is YAML; `null` is a value that was left open."""
    return json.dumps(value, default=_as_json, ensure_ascii=False)


def _as_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no YAML for {type(value).__name__}")
