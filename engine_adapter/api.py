"""What the gateway knows about engines: records and files, no engine code.

The supervisor of `sluice serve` and any gateway process meet in one small JSON file, the *fleet file*:
the supervisor writes it atomically whenever a worker changes, each gateway process watches it.
A fleet kept by hand or by another program uses the same file.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

WorkerState = Literal["starting", "ready", "draining", "backoff", "failed", "stopped"]
"""`starting`: process up, model loading. `backoff`: it died and waits for its restart. `failed`: given up."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One inference server as the fleet file describes it.

    `state` and `message` are the supervisor's view; whether the worker answers is found out by probing `url`.
    `generation` counts restarts: a larger one means an empty KV cache.
    """

    id: str
    url: str
    model: str | None = None
    """Model name if known before the worker answers; gateways learn the served names from `/v1/models`."""
    state: WorkerState = "ready"
    message: str = ""
    generation: int = 0
    kv_events: str | None = None
    """ZMQ PUB endpoint of the engine's KV events, e.g. `tcp://127.0.0.1:5557`."""
    kv_replay: str | None = None
    """ZMQ ROUTER endpoint that replays KV events."""
    kv_control: str | None = None
    """Control API of the KV layer beside the engine: `unix:///path` or `http://host:port`."""
    log: str | None = None
    """Where the worker's own output goes, for messages to people."""
    kv_layer: str = ""
    """What the worker said of its KV layer: `on: ` and its tiers, `off: ` and the reason, or nothing."""
    every_address: bool = False
    """The name in `url` stands for all addresses that it resolves to, and each of them is a worker."""
    server_name: str | None = None
    """Name to ask for (`Host`, TLS) where `url` has an address instead."""


class FleetFileError(ValueError):
    """The fleet file is not what `write_fleet` writes; the message names the file and the field."""


def write_fleet(path: Path, workers: list[WorkerInfo]) -> None:
    """Replace the fleet file atomically: a reader sees the old list or the new one, never half of one."""
    text = json.dumps({"workers": [asdict(w) for w in workers]}, indent=1)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def read_fleet(path: Path) -> list[WorkerInfo]:
    """Read a fleet file.

    Raises FleetFileError if it is malformed and FileNotFoundError if it is absent.
    """
    try:
        document = json.loads(path.read_text())
        entries: list[dict[str, Any]] = document["workers"]
    except (ValueError, KeyError, TypeError) as error:
        raise FleetFileError(f'{path}: expected {{"workers": [...]}}: {error}') from error
    known = {f.name for f in fields(WorkerInfo)}
    workers: list[WorkerInfo] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"id", "url"} <= entry.keys():
            raise FleetFileError(f'{path}: worker {number} needs at least "id" and "url"')
        if unknown := entry.keys() - known:
            raise FleetFileError(f"{path}: worker {entry['id']} has unknown fields {sorted(unknown)}")
        workers.append(WorkerInfo(**entry))
    if len({w.id for w in workers}) != len(workers):
        raise FleetFileError(f"{path}: two workers have the same id")
    return workers
