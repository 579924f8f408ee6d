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
from typing import Annotated, Any

import msgspec
import typer

from gateway.cli.flags import ConfigOption, fail
from gateway.config import KeyPath, Layer, SettingsError, layers_of, merge
from gateway.settings import Settings, load, section_in

app = typer.Typer(add_completion=False)

_WIDTH = 100


@app.command()
def settings(
    config: ConfigOption = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the page docs/settings.md; values do not count.")
    ] = False,
) -> None:
    """Show every setting, what it means and what it is now, with the place it comes from.

    As a file to edit and to start with:

        sluice settings > sluice.yaml
        sluice serve --config sluice.yaml

    To check a file, and to see what it and the environment change:

        sluice settings --config sluice.yaml
    """
    if markdown and config is None:
        _page()
        return
    try:
        found = load(config, os.environ, Layer())
        places = merge(layers_of(config, os.environ)).places
    except SettingsError as error:
        fail(*error.problems)
    if markdown:
        _page()
        return
    for line in reference(found, places):
        typer.echo(line)


def _page() -> None:
    from gateway.cli.settings_page import page

    typer.echo("\n".join(page()))


def reference(settings: Settings, places: Mapping[KeyPath, str] | None = None) -> Iterator[str]:
    """Lines of YAML: each setting under its explanation; its place follows where it is not a default."""
    for name in type(settings).model_fields:
        yield from _section(name, getattr(settings, name), (name,), places or {})
        yield ""


def attribute_docs(section: type) -> dict[str, str]:
    """The strings that stand below a section's fields in its source, and in those it inherits from."""
    docs: dict[str, str] = {}
    for parent in reversed(section.__mro__):
        if dataclasses.is_dataclass(parent) or parent in _structs(section):
            docs |= _own_docs(parent)
    return docs


def _structs(section: type) -> list[type]:
    return [c for c in section.__mro__ if issubclass(c, msgspec.Struct) and c is not msgspec.Struct]


def _own_docs(section: type) -> dict[str, str]:
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
    for field in _field_names(value):
        inner, here = getattr(value, field), (*path, field)
        if doc := docs.get(field):
            yield from textwrap.wrap(
                doc, _WIDTH, initial_indent=f"{indent}  # ", subsequent_indent=f"{indent}  # "
            )
        if dataclasses.is_dataclass(inner) or isinstance(inner, msgspec.Struct):
            yield from _section(field, inner, here, places)
        else:
            place = f"  # {places[here]}" if here in places else ""
            yield f"{indent}  {field}: {as_yaml(inner)}{place}"
            if inner is None and (absent := section_in(type(value), field)):
                yield from (f"{indent}  #   {line}" for line in _outline(absent))


def _outline(section: type) -> Iterator[str]:
    """What may be set in a section that is not there, with the values it would begin with."""
    docs = attribute_docs(section)
    for name, default in zip(section.__struct_fields__, _defaults(section), strict=True):  # type: ignore[attr-defined]
        yield from textwrap.wrap(docs.get(name, ""), _WIDTH, initial_indent="# ", subsequent_indent="# ")
        if isinstance(default, msgspec.Struct):
            yield f"{name}:"
            yield from (f"  {line}" for line in _outline(type(default)))
        else:
            yield f"{name}: {'...' if default is msgspec.NODEFAULT else as_yaml(default)}"


def _defaults(section: type) -> Iterator[Any]:
    for field in msgspec.structs.fields(section):
        factory = field.default_factory
        yield field.default if factory is msgspec.NODEFAULT else factory()


def _field_names(section: Any) -> Iterator[str]:
    if isinstance(section, msgspec.Struct):
        return iter(section.__struct_fields__)
    return (field.name for field in dataclasses.fields(section))


def as_yaml(value: Any) -> str:
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
