"""`sluice serve`: the gateway and, unless they run elsewhere, its workers."""

from __future__ import annotations

import importlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from engine_adapter.api import WorkerInfo, write_fleet
from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.plan import plan_workers
from engine_adapter.launch.ports import PortReservations
from engine_adapter.launch.settings import SupervisionSettings
from engine_adapter.launch.supervisor import EX_CONFIG, Supervisor
from engine_adapter.packages import shadowed_package
from gateway.access.keys import KeyRing
from gateway.access.settings import startup_error
from gateway.cli.console import Console
from gateway.cli.engine import hardware_of, model_of
from gateway.cli.flags import (
    ConfigOption,
    EngineOption,
    KvCacheBytesOption,
    KvDirOption,
    KvLayerOption,
    KvMemoryOption,
    MaxModelLenOption,
    ModelOption,
    ServedNameOption,
    engine_flags,
    fail,
    flag_layer,
    parse_aliases,
    state_directory,
)
from gateway.cli.listener import ListenError, address_of, bind_listener, browsable_url
from gateway.cli.reload import WorkersElsewhere
from gateway.cli.version import sluice_version
from gateway.config import SettingsError
from gateway.settings import Settings, load

app = typer.Typer(add_completion=False)

_LONGEST_SOCKET_DIRECTORY = 80
"""Characters. The path of a Unix socket holds 107, of which the name in the directory takes some 20."""
_DRAIN_MARGIN = 5.0
"""Seconds a gateway process may take beyond its drain time before it is killed."""


@app.command(context_settings={"allow_extra_args": True})
def serve(
    ctx: typer.Context,
    model: ModelOption = None,
    served_name: ServedNameOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            help="Workers to start and supervise.",
            show_default="1, or 0 with --worker-url",
        ),
    ] = None,
    worker_url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A vLLM server that runs elsewhere; repeat for several."),
    ] = None,
    engine: EngineOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="Port to listen on.", show_default="8080")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ask clients for a key of this file (`sluice key create`)."),
    ] = None,
    config: ConfigOption = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How a worker is chosen for a request, e.g. `least_load`, `prefix` or `session`.",
            show_default="ttft",
        ),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TARGET", help="Another name for a model; repeat for several."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Gateway processes that share the port.", show_default="1")
    ] = None,
    peer_listen: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT", help="Tell other gateways what is routed, e.g. tcp://10.0.0.2:7000."
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="ENDPOINT", help="Another gateway before the same workers; repeat for several."),
    ] = None,
    peer_secret_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The secret that these gateways share.")
    ] = None,
    max_model_len: MaxModelLenOption = None,
    kv_cache_bytes: KvCacheBytesOption = None,
    kv_layer: KvLayerOption = None,
    kv_memory: KvMemoryOption = None,
    kv_dir: KvDirOption = None,
    state_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="For logs and the fleet file.", show_default="~/.local/state/sluice/PORT"
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", show_default="info")
    ] = None,
) -> None:
    """Start the gateway, and workers for it.

    The model that ships with Sluice, on http://127.0.0.1:8080:

        sluice serve

    Any other model, two workers, and a name that programs already use:

        sluice serve --model Qwen/Qwen3-0.6B --workers 2 --alias gpt-4o=Qwen/Qwen3-0.6B

    vLLM servers that run elsewhere:

        sluice serve --worker-url http://10.0.0.7:8000 --worker-url http://10.0.0.8:8000

    Flags for vLLM itself follow two dashes:

        sluice serve --model ./my-model -- --enable-auto-tool-choice --tool-call-parser hermes

    Every setting can stand in a YAML file (`--config`), in the environment (`SLUICE_LISTEN__PORT=9000`) or,
    if there is one, in a flag; a flag wins over the environment, and that over the file.
    """
    if problem := shadowed_package():
        fail(problem)
    try:
        flags = flag_layer(
            model=model,
            served_name=served_name,
            workers=workers,
            worker_url=worker_url,
            engine=engine,
            host=host,
            port=port,
            api_key_file=api_key_file,
            policy=policy,
            aliases=parse_aliases(alias),
            processes=processes,
            peer_listen=peer_listen,
            peers=peer,
            peer_secret_file=peer_secret_file,
            max_model_len=max_model_len,
            kv_cache_bytes=kv_cache_bytes,
            kv_layer=kv_layer,
            kv_memory=kv_memory,
            kv_dir=kv_dir,
            state_dir=state_dir,
            log_level=log_level,
            engine_args=engine_flags(ctx.args),
        )
        settings = load(config, os.environ, flags)
        elsewhere = WorkersElsewhere(settings, config, lambda: load(config, os.environ, flags), _tell)
    except SettingsError as error:
        fail(*error.problems)
    try:
        listener = bind_listener(settings.listen)
    except ListenError as error:
        fail(str(error))
    with listener:
        raise typer.Exit(_run(settings, listener, elsewhere))


def _tell(line: str) -> None:
    typer.echo(f"sluice: {line}", err=True)


def _run(settings: Settings, listener: socket.socket, elsewhere: WorkersElsewhere) -> int:
    """Run until ended; returns the exit status."""
    host, port = address_of(listener)
    state_dir = state_directory(settings.supervision.state_dir, port)
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make {state_dir}: {error.strerror}; choose another with --state-dir")
    _check_access(settings)
    url = browsable_url(host, port, tls=settings.listen.tls_cert is not None)
    console = Console(url, keys=settings.access.key_file is not None)
    supervised = settings.engine.started_workers > 0 or settings.listen.processes > 1
    if settings.engine.fleet_file is None:
        _forget_last_run(state_dir)
    if supervised:
        return _supervise(settings, listener, elsewhere, state_dir, console)
    fleet_file = _fleet_file(settings, state_dir)
    listed: list[WorkerInfo] = []

    def keep_fleet_file() -> None:
        nonlocal listed
        if (workers := elsewhere()) != listed:
            write_fleet(fleet_file, workers)
            listed = workers

    if settings.engine.fleet_file is None:
        write_fleet(fleet_file, listed)
        keep_fleet_file()
    console.opened(sluice_version())
    if not listed and settings.engine.fleet_file is None:
        console.without_workers()
    console.example(None)
    keep = None if settings.engine.fleet_file else keep_fleet_file
    _run_gateway(settings, listener, fleet_file, keep_fleet_file=keep)
    return 0


def _forget_last_run(state_dir: Path) -> None:
    """Yesterday's counters are not today's, and a worker drained yesterday serves again."""
    from gateway.telemetry import processes

    processes.clear(state_dir)
    (state_dir / "overrides.json").unlink(missing_ok=True)


def _supervise(
    settings: Settings,
    listener: socket.socket,
    elsewhere: WorkersElsewhere,
    state_dir: Path,
    console: Console,
) -> int:
    """Run gateway processes and workers as children of this process."""
    # Imported once and before the workers compete for the processor; the forks share it.
    importlib.import_module("gateway.serve")
    starts_workers = settings.engine.started_workers > 0
    model = model_of(settings.engine) if starts_workers else None
    hardware = hardware_of(settings.engine) if starts_workers else Hardware.detect()
    fleet_file = _fleet_file(settings, state_dir)
    with _socket_directory(state_dir) as socket_dir, closing(PortReservations()) as ports:
        plans = plan_workers(
            settings.engine,
            model,
            hardware=hardware,
            environment=os.environ,
            state_dir=state_dir,
            socket_dir=socket_dir,
            ports=ports,
            kv=settings.kv,
        )
        supervisor = Supervisor(
            plans,
            elsewhere,
            fronts=settings.listen.processes,
            run_front=lambda number: _run_gateway(settings, listener, fleet_file, number, socket_dir),
            settings=settings.supervision,
            front_settings=SupervisionSettings(
                backoff_initial=0.2, stop_grace=settings.relay.drain_seconds + _DRAIN_MARGIN
            ),
            fleet_file=None if settings.engine.fleet_file else fleet_file,
            observer=console,
        )
        console.opened(sluice_version())
        if not plans:
            if not elsewhere() and settings.engine.fleet_file is None:
                console.without_workers()
            console.example(None)
        return supervisor.run()


@contextmanager
def _socket_directory(state_dir: Path) -> Iterator[Path]:
    """A directory for the workers' sockets that only this user may enter."""
    directory = state_dir / "run"
    if len(str(directory)) > _LONGEST_SOCKET_DIRECTORY:
        with tempfile.TemporaryDirectory(prefix="sluice-") as temporary:
            yield Path(temporary)
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    yield directory


def _fleet_file(settings: Settings, state_dir: Path) -> Path:
    kept_by_others = settings.engine.fleet_file
    return Path(kept_by_others) if kept_by_others else state_dir / "fleet.json"


def _run_gateway(
    settings: Settings,
    listener: socket.socket,
    fleet_file: Path,
    number: int = 0,
    socket_dir: Path | None = None,
    keep_fleet_file: Callable[[], None] | None = None,
) -> None:
    from gateway.serve import StartupError, run_gateway

    try:
        run_gateway(settings, [listener], fleet_file, number, socket_dir, keep_fleet_file)
    except StartupError as error:
        typer.echo(f"sluice: {error}", err=True)
        raise SystemExit(EX_CONFIG) from error


def _check_access(settings: Settings) -> None:
    """Refuse here, once, what every gateway process would refuse."""
    keys = 0
    if settings.access.key_file is not None:
        try:
            keys = len(KeyRing(settings.access.key_file))
        except FileNotFoundError:
            file = settings.access.key_file
            fail(f"there is no key file {file}; `sluice key create --file {file} NAME` makes one")
        except (OSError, ValueError) as error:
            fail(f"the key file cannot be used: {error}")
    if problem := startup_error(settings.access, settings.listen.host, keys):
        fail(problem)
