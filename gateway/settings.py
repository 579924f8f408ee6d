"""Everything an operator may set, composed of the sections that live beside their users.

    listen:        gateway.cli.listener      engine, supervision:   engine_adapter.launch.settings
    relay:         gateway.relay.settings    routing:               gateway.routing.settings
    peers:         gateway.routing.settings  access:                gateway.access.settings
    telemetry:     gateway.telemetry.settings streams:             gateway.transport.settings
    realtime:      gateway.transport.settings kv:                  engine_adapter.launch.kv

`load` reads them from a YAML file, the environment and flags, in this order; later ones win.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from engine_adapter.launch.kv import KvSettings, kv_settings
from engine_adapter.launch.settings import EngineSettings, SupervisionSettings
from gateway.access.settings import AccessSettings
from gateway.cli.listener import ListenSettings
from gateway.config import KeyPath, Layer, SettingsError, layers_of, merge, near_names, place_of
from gateway.relay.settings import RelaySettings
from gateway.routing.settings import PeerSettings, RoutingSettings
from gateway.telemetry.settings import TelemetrySettings, from_environment
from gateway.transport.settings import RealtimeSettings, StreamSettings


class Settings(BaseModel):
    """One section per room of the house; each is a frozen value that is handed to its user."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    listen: ListenSettings = Field(default_factory=ListenSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    supervision: SupervisionSettings = Field(default_factory=SupervisionSettings)
    relay: RelaySettings = Field(default_factory=RelaySettings)
    routing: RoutingSettings = Field(default_factory=RoutingSettings)
    peers: PeerSettings = Field(default_factory=PeerSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)
    streams: StreamSettings = Field(default_factory=StreamSettings)
    realtime: RealtimeSettings = Field(default_factory=RealtimeSettings)
    kv: Annotated[KvSettings, PlainValidator(kv_settings), PlainSerializer(msgspec.to_builtins)] = Field(
        default_factory=KvSettings
    )


def load(file: Path | None, environ: Mapping[str, str], flags: Layer) -> Settings:
    """Read all layers and check them.

    Raises SettingsError, one line per mistake, each naming the file and line, variable or flag to correct.
    """
    merged = merge([*layers_of(file, environ), flags])
    try:
        settings = Settings.model_validate(merged.values)
    except ValidationError as error:
        raise SettingsError(_problems(error, merged)) from error
    telemetry = from_environment(settings.telemetry, environ)
    return settings.model_copy(update={"telemetry": telemetry})


def known_paths(section: type = Settings) -> Iterator[KeyPath]:
    """Every settable path, sections included, depth first."""
    for name, annotation in _fields(section).items():
        yield (name,)
        if inner := _section_type(annotation):
            yield from ((name, *rest) for rest in known_paths(inner))


def _problems(error: ValidationError, merged: Layer) -> Iterator[str]:
    for mistake in error.errors(include_url=False):
        path = tuple(str(part) for part in mistake["loc"])
        name = ".".join(path)
        match mistake["type"]:
            case "extra_forbidden" | "unexpected_keyword_argument":
                yield f"{place_of(path, merged.places)}: there is no setting {name}{_suggestion(path)}"
            case "value_error":
                reason = str(mistake["ctx"]["error"])
                culprit = _named_in(reason, path, merged)
                yield f"{place_of(culprit, merged.places)}: {name}: {reason}"
            case _:
                given = repr(mistake["input"])
                shown = given if len(given) <= 60 else given[:57] + "..."
                yield f"{place_of(path, merged.places)}: {name}: {mistake['msg']}, got {shown}"


def _named_in(reason: str, path: KeyPath, merged: Layer) -> KeyPath:
    """A section that refuses its values says which in words; find the one that was written somewhere."""
    inside = [known for known in merged.places if known[: len(path)] == path and known[-1] in reason]
    return max(inside, key=len, default=path)


def _suggestion(path: KeyPath) -> str:
    siblings = [known[-1] for known in known_paths() if known[:-1] == path[:-1]]
    if near := near_names(path[-1], siblings):
        return near
    leaf = path[-1].replace("-", "_")
    elsewhere = [".".join(known) for known in known_paths() if known[-1] == leaf]
    return f" (did you mean {' or '.join(elsewhere)}?)" if elsewhere else ""


def _fields(section: type) -> dict[str, Any]:
    hints = typing.get_type_hints(section)
    if dataclasses.is_dataclass(section):
        return {f.name: hints[f.name] for f in dataclasses.fields(section)}
    if issubclass(section, msgspec.Struct):
        return {name: hints[name] for name in section.__struct_fields__}
    if issubclass(section, BaseModel):
        return {name: hints[name] for name in section.model_fields}
    return {}


def section_in(section: type, field: str) -> type | None:
    """The section class that a field of a section may hold, if it may hold one."""
    return _section_type(_fields(section)[field])


def _section_type(annotation: Any) -> type | None:
    """The section class inside an annotation, seen through `X | None`."""
    if isinstance(annotation, types.UnionType):
        return next((found for part in annotation.__args__ if (found := _section_type(part))), None)
    if typing.get_origin(annotation) is Annotated:
        return _section_type(annotation.__origin__)
    if not isinstance(annotation, type):
        return None
    section = dataclasses.is_dataclass(annotation) or issubclass(annotation, msgspec.Struct)
    return annotation if section else None
