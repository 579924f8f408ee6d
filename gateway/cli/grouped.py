"""Options that several commands share, declared once as fields of a dataclass.

    @app.command()
    @grouped
    def pin(owner: str, chunks: Chosen, at: Gateway) -> None: ...

has `owner` and then every field of `Chosen` and of `Gateway` as its options, with the fields' annotations and
defaults, and gets the two dataclasses made of what was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as the command line sees it: fields instead of dataclasses."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    options: dict[str, inspect.Parameter] = {}
    for parameter in inspect.signature(command).parameters.values():
        for one in _fields(groups[parameter.name]) if parameter.name in groups else [parameter]:
            annotation = hints.get(one.name, one.annotation)
            options[one.name] = one.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY)

    @wraps(command)
    def flat(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **made)

    flat.__signature__ = inspect.Signature(list(options.values()))  # type: ignore[attr-defined]
    flat.__annotations__ = {name: option.annotation for name, option in options.items()}
    return flat


def _fields(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
