"""The command line of a worker, for a CPU, a GPU and the fake engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from engine_adapter.launch.command import Command, Endpoints, worker_command
from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.model import Model
from engine_adapter.launch.settings import EngineSettings

CPU = Hardware(cores=8, free_bytes=32 << 30, gpus=0)
GPUS = Hardware(cores=32, free_bytes=256 << 30, gpus=2)
HUB_MODEL = Model("org/model", "org/model", local=False)
ENDPOINTS = Endpoints("127.0.0.1", 18100, "ipc:///run/w.events", "ipc:///run/w.replay")


def build(
    hardware: Hardware = CPU,
    environment: Mapping[str, str] | None = None,
    model: Model | None = HUB_MODEL,
    index: int = 0,
    **settings: Any,
) -> Command:
    return worker_command(EngineSettings(**settings), model, ENDPOINTS, hardware, environment or {}, index)


def value_of(command: Command, flag: str) -> str:
    return command.argv[command.argv.index(flag) + 1]


def test_a_cpu_worker_starts_eagerly_with_an_explicit_cache_in_one_engine_process() -> None:
    command = build()
    assert "--enforce-eager" in command.argv
    assert int(value_of(command, "--kv-cache-memory-bytes")) > 0
    assert value_of(command, "--distributed-executor-backend") == "uni"
    assert command.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert command.environment["OMP_NUM_THREADS"] == "7"


def test_a_gpu_worker_leaves_memory_and_compilation_to_vllm() -> None:
    command = build(GPUS)
    assert "--enforce-eager" not in command.argv
    assert "--kv-cache-memory-bytes" not in command.argv
    assert "--distributed-executor-backend" not in command.argv
    assert "CUDA_VISIBLE_DEVICES" not in command.environment


def test_gpu_workers_are_spread_over_the_gpus() -> None:
    devices = [build(GPUS, index=n, workers=3).environment["CUDA_VISIBLE_DEVICES"] for n in range(3)]
    assert devices == ["0", "1", "0"]


def test_threads_are_shared_between_workers() -> None:
    assert build(workers=2).environment["OMP_NUM_THREADS"] == "3"
    assert build(Hardware(2, 8 << 30, 0), workers=4).environment["OMP_NUM_THREADS"] == "1"
    assert build(environment={"OMP_NUM_THREADS": "2"}).environment["OMP_NUM_THREADS"] == "2"


def test_it_publishes_kv_events_with_hashes_others_can_compute() -> None:
    command = build()
    events = json.loads(value_of(command, "--kv-events-config"))
    assert events["endpoint"] == ENDPOINTS.kv_events
    assert events["replay_endpoint"] == ENDPOINTS.kv_replay
    assert events["enable_kv_cache_events"] is True
    assert value_of(command, "--prefix-caching-hash-algo") == "sha256_cbor"
    assert value_of(command, "--block-size") == "32"


def test_no_usage_statistics_leave_the_machine() -> None:
    assert build().environment["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    ("args", "gone"),
    [
        (("--block-size", "64"), "32"),
        (("--block-size=64",), "32"),
        (("--no-enforce-eager",), "--enforce-eager"),
        (("--served_model_name", "mine"), "org/served"),
    ],
)
def test_the_operators_own_flags_win(args: tuple[str, ...], gone: str) -> None:
    command = build(model=Model("org/model", "org/served", local=False), args=args)
    assert command.argv[-len(args) :] == args
    assert gone not in command.argv


def test_several_processes_per_worker_keep_vllms_own_executor() -> None:
    command = build(args=("-tp", "2"))
    assert "--distributed-executor-backend" not in command.argv
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in command.environment
    assert command.environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_settings_reach_the_command() -> None:
    command = build(max_model_len=2048, kv_cache_bytes=1 << 28, env={"HF_TOKEN": "t"})
    assert value_of(command, "--max-model-len") == "2048"
    assert value_of(command, "--kv-cache-memory-bytes") == str(1 << 28)
    assert command.environment["HF_TOKEN"] == "t"


def test_a_hub_model_may_use_the_network() -> None:
    assert "HF_HUB_OFFLINE" not in build().environment


def test_the_fake_engine_takes_the_same_place() -> None:
    command = build(model=None, kind="fake", args=("--itl", "0.01"))
    assert command.argv[1:3] == ("-m", "engine_adapter.fake")
    assert value_of(command, "--port") == "18100"
    assert value_of(command, "--kv-events") == ENDPOINTS.kv_events
    assert command.argv[-2:] == ("--itl", "0.01")


def test_a_worker_on_its_own_lets_requests_finish() -> None:
    alone = worker_command(EngineSettings(), HUB_MODEL, ENDPOINTS, CPU, {}, drain_seconds=30)
    assert value_of(alone, "--shutdown-timeout") == "30"
    assert "--shutdown-timeout" not in build().argv
    own = EngineSettings(args=("--shutdown-timeout", "5"))
    told = worker_command(own, HUB_MODEL, ENDPOINTS, CPU, {}, drain_seconds=30)
    assert told.argv.count("--shutdown-timeout") == 1


def test_ipv6_urls_have_brackets() -> None:
    assert Endpoints("::1", 80).url == "http://[::1]:80"
