"""Command-line options that several commands share, and how options become settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from engine_adapter.launch.settings import EngineKind
from gateway.config import KeyPath, Layer, SettingsError

EngineOption = Annotated[
    EngineKind | None,
    typer.Option(
        "--engine", help="`vllm`, or `fake` for a scripted engine without a model.", show_default="vllm"
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PATH|ID",
        help="Directory of a model, or its name on the Hugging Face hub.",
        show_default="the model that ships with Sluice",
    ),
]
ServedNameOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name that clients ask for.", show_default="from --model"),
]
MaxModelLenOption = Annotated[
    int | None,
    typer.Option(metavar="TOKENS", help="Longest prompt plus answer.", show_default="the model's own"),
]
KvCacheBytesOption = Annotated[
    int | None,
    typer.Option(metavar="BYTES", help="KV cache of one worker.", show_default="from model and free memory"),
]
KvLayerOption = Annotated[
    bool | None,
    typer.Option("--kv/--no-kv", help="Keep computed KV beyond the engine's own cache.", show_default="kv"),
]
KvMemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory for kept KV, all workers together, e.g. `4GiB`.",
        show_default="a tenth of all, at most 2 GiB",
    ),
]
KvDirOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Keep KV in files there too: it survives restarts and workers share it."
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="SLUICE_CONFIG",
        help="Settings as YAML; `sluice settings` writes one.",
    ),
]

PLACES: Mapping[str, tuple[KeyPath, str]] = {
    "engine": (("engine", "kind"), "--engine"),
    "model": (("engine", "model"), "--model"),
    "served_name": (("engine", "served_name"), "--served-name"),
    "workers": (("engine", "workers"), "--workers"),
    "worker_url": (("engine", "worker_urls"), "--worker-url"),
    "max_model_len": (("engine", "max_model_len"), "--max-model-len"),
    "kv_cache_bytes": (("engine", "kv_cache_bytes"), "--kv-cache-bytes"),
    "kv_layer": (("kv", "enabled"), "--kv"),
    "kv_memory": (("kv", "memory", "bytes"), "--kv-memory"),
    "kv_dir": (("kv", "file", "path"), "--kv-dir"),
    "engine_args": (("engine", "args"), "the flags after --"),
    "host": (("listen", "host"), "--host"),
    "port": (("listen", "port"), "--port"),
    "processes": (("listen", "processes"), "--processes"),
    "state_dir": (("supervision", "state_dir"), "--state-dir"),
    "policy": (("routing", "policy"), "--policy"),
    "peer_listen": (("peers", "listen"), "--peer-listen"),
    "peers": (("peers", "connect"), "--peer"),
    "peer_secret_file": (("peers", "secret_file"), "--peer-secret-file"),
    "aliases": (("relay", "aliases"), "--alias"),
    "api_key_file": (("access", "key_file"), "--api-key-file"),
    "log_level": (("telemetry", "log_level"), "--log-level"),
}
"""Parameter of a command -> the setting it sets, and the flag to name when that is wrong."""


def flag_layer(**parameters: Any) -> Layer:
    """The options that were given (not None, not empty) as the topmost layer of settings."""
    layer = Layer()
    for name, value in parameters.items():
        if value is None or value in ([], {}):
            continue
        path, flag = PLACES[name]
        layer.put(path, value, flag)
    return layer


def parse_aliases(pairs: list[str] | None) -> dict[str, str]:
    """`["gpt-4o=sluice-base"]` as a mapping."""
    aliases: dict[str, str] = {}
    for pair in pairs or []:
        alias, separator, target = pair.partition("=")
        if not (alias and separator and target):
            raise SettingsError([f"--alias: expected NAME=TARGET, got {pair!r}"])
        aliases[alias] = target
    return aliases


def engine_flags(rest: list[str]) -> list[str]:
    """What follows `--` on the command line, for the engine. A stray word is refused."""
    if rest and not rest[0].startswith("-"):
        raise SettingsError([f"unexpected argument {rest[0]!r}; flags for vLLM follow `--`"])
    return rest


def state_directory(configured: str | None, port: int, environ: Mapping[str, str] = os.environ) -> Path:
    """Where logs and the fleet file of the Sluice at `port` go."""
    if configured is not None:
        directory = Path(configured).expanduser()
    else:
        base = environ.get("XDG_STATE_HOME") or "~/.local/state"
        directory = Path(base).expanduser() / "sluice" / str(port)
    return directory.resolve()


def fail(*lines: str) -> NoReturn:
    """End with an error that a person can act on."""
    for line in lines:
        typer.secho(f"sluice: {line}", err=True, fg="red" if sys.stderr.isatty() else None)
    raise typer.Exit(2)
