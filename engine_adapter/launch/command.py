"""The command line and environment of one worker process. Pure: everything it depends on is an argument."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.kv import USAGE_MIDDLEWARE, KvSettings, kv_transfer_config
from engine_adapter.launch.model import Model, cpu_kv_cache_bytes
from engine_adapter.launch.settings import EngineSettings

VLLM_SERVER = "engine_adapter.vllm.server"
FAKE_MODEL = "fake"
FAKE_SERVER = "engine_adapter.fake"

_PARALLEL_FLAGS = (
    "--distributed-executor-backend",
    "--tensor-parallel-size",
    "-tp",
    "--pipeline-parallel-size",
    "-pp",
    "--data-parallel-size",
    "-dp",
)
"""With one of these the operator asks for several processes per worker, so vLLM's own executor stays."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where one worker listens. The KV event sockets are ZMQ endpoints, both or neither."""

    host: str
    port: int
    kv_events: str | None = None
    kv_replay: str | None = None
    kv_control: str | None = None
    """Where the KV layer's control API listens, if there is one."""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Command:
    """`environment` is complete: nothing is inherited behind its back."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def worker_command(
    settings: EngineSettings,
    model: Model | None,
    endpoints: Endpoints,
    hardware: Hardware,
    environment: Mapping[str, str],
    index: int = 0,
    drain_seconds: int = 0,
    kv: KvSettings | None = None,
) -> Command:
    """The command of worker `index` of `settings.started_workers`. `model` is None for a fake engine.

    `kv`: its KV layer, None for none. It serves engines on a CPU; others start without.

    `drain_seconds`: how long vLLM lets running requests finish after SIGTERM. 0 for a supervised worker,
    whose gateways have drained before it is told to end.
    """
    if settings.kind == "fake" or model is None:
        return _fake_command(settings, endpoints, environment)
    command = _vllm_command(settings, model, endpoints, hardware, environment, index, kv)
    if drain_seconds and not any(_is_flag(arg, ("--shutdown-timeout",)) for arg in settings.args):
        return replace(command, argv=(*command.argv, "--shutdown-timeout", str(drain_seconds)))
    return command


def kv_events_config(endpoints: Endpoints) -> str:
    """vLLM's `--kv-events-config` for these endpoints, as JSON."""
    return json.dumps(
        {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": endpoints.kv_events,
            "replay_endpoint": endpoints.kv_replay,
            "topic": "kv",
        }
    )


def _vllm_command(
    settings: EngineSettings,
    model: Model,
    endpoints: Endpoints,
    hardware: Hardware,
    environment: Mapping[str, str],
    index: int,
    kv: KvSettings | None,
) -> Command:
    on_cpu = hardware.gpus == 0
    workers = max(settings.started_workers, 1)
    flags: dict[str, str | None] = {
        "--model": model.source,
        "--served-model-name": model.name,
        "--host": endpoints.host,
        "--port": str(endpoints.port),
        "--block-size": str(settings.block_size),
        "--prefix-caching-hash-algo": "sha256_cbor",
        "--enable-prompt-tokens-details": None,
        "--disable-uvicorn-access-log": None,
        **dict(model.flags),
    }
    if settings.max_model_len is not None:
        flags["--max-model-len"] = str(settings.max_model_len)
    kv_bytes = settings.kv_cache_bytes
    if on_cpu:
        # Compiling costs minutes of start-up on a CPU and gains little there.
        flags["--enforce-eager"] = None
        if kv_bytes is None:
            kv_bytes = cpu_kv_cache_bytes(
                model.config(), settings.max_model_len, hardware.free_bytes, workers
            )
    if kv_bytes is not None:
        flags["--kv-cache-memory-bytes"] = str(kv_bytes)
    if endpoints.kv_events is not None:
        flags["--kv-events-config"] = kv_events_config(endpoints)
    if on_cpu and kv is not None and kv.enabled:
        flags["--kv-transfer-config"] = kv_transfer_config(kv, workers, endpoints.kv_control)
        flags["--middleware"] = USAGE_MIDDLEWARE
    several_processes = any(_is_flag(arg, _PARALLEL_FLAGS) for arg in settings.args)
    if on_cpu and not several_processes:
        flags["--distributed-executor-backend"] = "uni"

    env = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "300",
        "TOKENIZERS_PARALLELISM": "false",
        # KV codecs multiply small matrices: threads of its own for each cost more than they bring.
        "OPENBLAS_NUM_THREADS": "1",
        **environment,
    }
    if model.local:
        env.setdefault("HF_HUB_OFFLINE", "1")
    if on_cpu:
        env.update(_cpu_environment(env, hardware, workers, several_processes))
    elif workers > 1:
        env.setdefault("CUDA_VISIBLE_DEVICES", str(index % hardware.gpus))
    env.update(settings.env)
    return Command((sys.executable, "-m", VLLM_SERVER, *_as_argv(flags, settings.args)), env)


def _cpu_environment(
    environment: Mapping[str, str], hardware: Hardware, workers: int, several_processes: bool
) -> dict[str, str]:
    """Threads for one worker. One core stays free for the gateway and the engines' own HTTP servers.

    With `VLLM_ENABLE_V1_MULTIPROCESSING=0` vLLM keeps the model in its engine process (executor `uni`) rather
    than in a third process: a third less start-up time and 0.6 GB less memory. The thread count then has to
    be given here, since only vLLM's multi-process executor sets it.
    """
    if several_processes:
        # vLLM binds the threads of every instance to the same cores unless it is told not to.
        return {"VLLM_CPU_OMP_THREADS_BIND": environment.get("VLLM_CPU_OMP_THREADS_BIND", "nobind")}
    threads = max(1, (hardware.cores - 1) // workers)
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", str(threads)),
    }


def _fake_command(settings: EngineSettings, endpoints: Endpoints, environment: Mapping[str, str]) -> Command:
    flags: dict[str, str | None] = {
        "--host": endpoints.host,
        "--port": str(endpoints.port),
        "--model": settings.served_name or settings.model or FAKE_MODEL,
        "--block-size": str(settings.block_size),
    }
    if settings.max_model_len is not None:
        flags["--max-model-len"] = str(settings.max_model_len)
    if endpoints.kv_events is not None and endpoints.kv_replay is not None:
        flags["--kv-events"] = endpoints.kv_events
        flags["--kv-replay"] = endpoints.kv_replay
    argv = (sys.executable, "-m", FAKE_SERVER, *_as_argv(flags, settings.args))
    return Command(argv, {**environment, **settings.env})


def _as_argv(flags: Mapping[str, str | None], more: tuple[str, ...]) -> list[str]:
    """Our flags, without those the operator gives himself, then the operator's."""
    argv: list[str] = []
    for flag, value in flags.items():
        if any(_is_flag(arg, (flag, f"--no-{flag[2:]}")) for arg in more):
            continue
        argv.append(flag)
        if value is not None:
            argv.append(value)
    return [*argv, *more]


def _is_flag(arg: str, names: tuple[str, ...]) -> bool:
    return arg.split("=", 1)[0].replace("_", "-") in names
