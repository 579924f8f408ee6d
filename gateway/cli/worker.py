"""`sluice worker`: one worker in the foreground, for another machine, a container or a look at its output."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from engine_adapter.launch.command import Endpoints, worker_command
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
)
from gateway.config import SettingsError
from gateway.settings import load

app = typer.Typer(add_completion=False)


@app.command(context_settings={"allow_extra_args": True})
def worker(
    ctx: typer.Context,
    model: ModelOption = None,
    served_name: ServedNameOption = None,
    engine: EngineOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port to listen on.")] = 8000,
    max_model_len: MaxModelLenOption = None,
    kv_cache_bytes: KvCacheBytesOption = None,
    kv_layer: KvLayerOption = None,
    kv_memory: KvMemoryOption = None,
    kv_dir: KvDirOption = None,
    kv_events: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT", help="Publish KV events there (ZMQ), e.g. `tcp://*:5557`; needs --kv-replay."
        ),
    ] = None,
    kv_replay: Annotated[
        str | None,
        typer.Option(metavar="ENDPOINT", help="Replay KV events there (ZMQ), e.g. `tcp://*:5558`."),
    ] = None,
    drain_seconds: Annotated[
        int, typer.Option(min=0, help="How long running requests may finish after SIGTERM.")
    ] = 30,
    config: ConfigOption = None,
) -> None:
    """Run one worker as `sluice serve` would start it, in the foreground.

    On another machine, in a container, or for a look at its output:

        sluice worker --model ./my-model --host 0.0.0.0 --port 8000

    A scripted engine without a model, which has vLLM's HTTP surface, metrics and KV events:

        sluice worker --engine fake --port 8000 -- --itl 0.02 --prefill-rate 8000

    Flags for the engine itself follow two dashes. A worker asks for no key, so let only gateways reach it;
    then point one there:

        sluice serve --worker-url http://127.0.0.1:8000
    """
    if (kv_events is None) != (kv_replay is None):
        fail("--kv-events and --kv-replay go together")
    try:
        flags = flag_layer(
            model=model,
            served_name=served_name,
            engine=engine,
            max_model_len=max_model_len,
            kv_cache_bytes=kv_cache_bytes,
            kv_layer=kv_layer,
            kv_memory=kv_memory,
            kv_dir=kv_dir,
            engine_args=engine_flags(ctx.args),
        )
        loaded = load(config, os.environ, flags)
    except SettingsError as error:
        fail(*error.problems)
    settings = loaded.engine
    command = worker_command(
        settings,
        model_of(settings),
        Endpoints(host, port, kv_events, kv_replay),
        hardware_of(settings),
        os.environ,
        drain_seconds=drain_seconds,
        kv=loaded.kv,
    )
    os.execve(command.argv[0], command.argv, dict(command.environment))
