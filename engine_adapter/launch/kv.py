"""What an operator may say about the KV layer of the workers that Sluice starts, and how vLLM is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cache.settings import MemorySettings, StoreSettings, store_settings, with_booleans
from engine_adapter.launch.hardware import total_memory

CONNECTOR = "SluiceConnector"
CONNECTOR_MODULE = "engine_adapter.vllm.connector"
USAGE_MIDDLEWARE = "engine_adapter.vllm.usage.KvUsage"

STATUS = "sluice-kv: the KV layer is "
"""Begins the line of a worker's log that tells whether it has a KV layer: `on: ...` or `off: ...`."""

_OWN = ("enabled", "save_decoded")
_MOST_BYTES = 2 << 30


def _memory() -> MemorySettings:
    """A tenth of the machine's, at most 2 GiB. Pages are taken from the system as they fill."""
    return MemorySettings(bytes=min(_MOST_BYTES, total_memory() // 10), prefault=False)


class KvSettings(StoreSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The KV layer: computed KV outlives the engine's own cache, in memory and wherever else is named."""

    enabled: bool = True
    """Off: workers keep only the prefix cache inside vLLM."""
    memory: MemorySettings = msgspec.field(default_factory=_memory)
    """Shared memory, its `bytes` divided among the workers of this machine; by default a tenth of all
    memory, at most 2 GiB."""
    save_decoded: bool = False
    """Save the KV of answers too, as they are written, not only that of prompts. The next turn of a
    conversation brings its last answer in anyway; this spares computing it once more."""


def kv_settings(mapping: Mapping[str, Any] | KvSettings) -> KvSettings:
    """Settings from YAML, environment or flags. Raises ValueError naming what is wrong."""
    if isinstance(mapping, KvSettings):
        return mapping
    mapping = with_booleans(mapping, KvSettings)
    own = {name: mapping[name] for name in _OWN if name in mapping}
    store = msgspec.to_builtins(store_settings({k: v for k, v in mapping.items() if k not in own}))
    if "memory" not in mapping:
        del store["memory"]
    try:
        return msgspec.convert({**store, **own}, KvSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"KV layer settings: {error}") from error


def kv_transfer_config(settings: KvSettings, workers: int, control: str | None = None) -> str:
    """vLLM's `--kv-transfer-config` for one of `workers` workers, as JSON; `control` is where its control API
    listens.

    Passwords in it (a Valkey URL) are visible in the process list, as with any flag; keep them in the
    environment or a file of the server's own.
    """
    extra = {name: value for name, value in msgspec.to_builtins(settings).items() if name != "enabled"}
    extra["memory"]["bytes"] //= max(workers, 1)
    extra["control"] = control
    if extra["file"] is not None:
        extra["file"]["path"] = str(Path(extra["file"]["path"]).expanduser().resolve())
    return json.dumps(
        {
            "kv_connector": CONNECTOR,
            "kv_connector_module_path": CONNECTOR_MODULE,
            "kv_role": "kv_both",
            # The other policy ends a request whose KV cannot be loaded with an error.
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": {key: value for key, value in extra.items() if value is not None},
        }
    )
