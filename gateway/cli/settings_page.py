"""`docs/settings.md`: the reference of all settings as a page, from the same sources as `sluice settings`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from engine_adapter.launch.kv import KvSettings
from gateway.cli.flags import PLACES
from gateway.cli.settings import as_yaml, attribute_docs
from gateway.config import ENV_DELIMITER, ENV_PREFIX, KeyPath
from gateway.settings import Settings, section_in

SECTIONS: dict[str, str] = {
    "listen": "Where the gateway listens. `tls_cert` and `tls_key` make it HTTPS.",
    "engine": "Which model is served, by workers started here or running elsewhere.",
    "supervision": "How workers that are started here are watched and restarted. Times are in seconds.",
    "relay": "The data plane: time limits, retries, queue, health checks ([architecture](architecture.md)).",
    "routing": "Which worker a request goes to; see [routing](routing.md).",
    "peers": "Gateways that tell each other what they route; see [routing](routing.md).",
    "access": "Who may use the gateway; see [containers](containers.md#who-can-reach-it-and-api-keys).",
    "telemetry": "Logs, [metrics](metrics.md) and traces.",
    "streams": "Streams that can be taken up again; see [streams](streams.md).",
    "realtime": "WebRTC calls; see [streams](streams.md) and [Eloquent](eloquent.md).",
    "kv": "The [KV layer](kv-layer.md) of workers. Sizes may be written `4GiB`.",
}
"""What stands below the heading of each section."""

_OF_THE_MACHINE: dict[KeyPath, str] = {("kv", "memory", "bytes"): "a tenth of memory, at most 2 GiB"}
"""Defaults that are not the same everywhere, in words."""

_HEAD = f"""# Settings

`sluice settings` prints this list as a YAML file to start from, with the values in force and where each comes
from. A setting is written in one of four places; a later one wins over an earlier one:

1. the default below;
2. a YAML file, `sluice serve --config sluice.yaml`:

   ```yaml
   listen: {{port: 9000}}
   relay:
     timeouts: {{first_byte: 120}}
   ```

3. the environment: `{ENV_PREFIX}LISTEN{ENV_DELIMITER}PORT=9000`, \
`{ENV_PREFIX}RELAY{ENV_DELIMITER}TIMEOUTS{ENV_DELIMITER}FIRST_BYTE=120`; lists and mappings as JSON;
4. a flag, where there is one.

A wrong value stops the start with one line that names its place, `sluice.yaml:12` for instance. A key in
italics belongs to a section that is absent by default; setting any of its keys makes it.
"""


def page() -> Iterator[str]:
    """The lines of the page."""
    yield from _HEAD.splitlines()
    for name, annotation in typing.get_type_hints(Settings).items():
        section = annotation if isinstance(annotation, type) else typing.get_origin(annotation)
        yield from ("", f"## {name}", "", SECTIONS[name], "")
        yield from ("| Setting | Default | Flag | Meaning |", "|---|---|---|---|")
        yield from _rows(KvSettings if name == "kv" else section, (name,), absent=False)


def _rows(section: Any, path: KeyPath, *, absent: bool) -> Iterator[str]:
    docs = attribute_docs(section)
    flags = {where: flag for where, flag in PLACES.values() if flag.startswith("--")}
    for name, default in _defaults(section):
        here = (*path, name)
        if inner := section_in(section, name):
            yield from _rows(inner, here, absent=absent or default is None)
            continue
        key = f"`{'.'.join(here[1:])}`"
        shown = _OF_THE_MACHINE.get(here) or ("required" if default is _REQUIRED else f"`{as_yaml(default)}`")
        flag = f"`{flags[here]}`" if here in flags else ""
        meaning = docs.get(name, "").replace("|", "\\|")
        yield f"| {f'*{key}*' if absent else key} | {shown} | {flag} | {meaning} |"


_REQUIRED = object()


def _defaults(section: Any) -> Iterator[tuple[str, Any]]:
    """Names and defaults; `_REQUIRED` where there is none."""
    if dataclasses.is_dataclass(section):
        for field in dataclasses.fields(section):
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            yield field.name, _REQUIRED if default is dataclasses.MISSING else default
        return
    for entry in msgspec.structs.fields(section):
        if entry.default_factory is not msgspec.NODEFAULT:
            yield entry.name, entry.default_factory()
        else:
            yield entry.name, _REQUIRED if entry.default is msgspec.NODEFAULT else entry.default
