"""The KV layer's settings, and what of them reaches a worker's command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cache.settings import FileSettings, MemorySettings
from engine_adapter.launch.command import Endpoints, worker_command
from engine_adapter.launch.hardware import Hardware, total_memory
from engine_adapter.launch.kv import STATUS, KvSettings, kv_settings, kv_transfer_config
from engine_adapter.launch.model import Model
from engine_adapter.launch.output import WorkerOutput
from engine_adapter.launch.settings import EngineSettings
from engine_adapter.vllm.options import read_options

MODEL = Model("org/model", "org/model", local=False)
FLAG = "--kv-transfer-config"


def config_of(settings: KvSettings | None, gpus: int = 0, **engine: Any) -> dict[str, Any] | None:
    hardware = Hardware(cores=8, free_bytes=32 << 30, gpus=gpus)
    command = worker_command(
        EngineSettings(**engine), MODEL, Endpoints("127.0.0.1", 1), hardware, {}, kv=settings
    )
    if FLAG not in command.argv:
        return None
    found: dict[str, Any] = json.loads(command.argv[command.argv.index(FLAG) + 1])
    return found


def test_by_default_memory_has_a_safe_bound() -> None:
    assert 0 < KvSettings().memory.bytes <= min(2 << 30, total_memory() // 10)


def test_a_worker_on_a_cpu_has_it_and_recomputes_what_cannot_be_loaded() -> None:
    config = config_of(KvSettings())
    assert config is not None
    assert config["kv_connector"] == "SluiceConnector"
    assert config["kv_load_failure_policy"] == "recompute"


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        (KvSettings(enabled=False), {}),
        (None, {}),
        (KvSettings(), {"gpus": 1}),
        (KvSettings(), {"kind": "fake"}),
    ],
    ids=["off", "none", "GPU", "fake engine"],
)
def test_others_start_without(settings: KvSettings | None, more: dict[str, Any]) -> None:
    assert config_of(settings, **more) is None


def test_an_operators_own_connector_wins() -> None:
    config = config_of(KvSettings(), args=(FLAG, '{"kv_connector": "Other"}'))
    assert config == {"kv_connector": "Other"}


def test_workers_share_the_memory_and_the_directory() -> None:
    settings = KvSettings(memory=MemorySettings(bytes=900), file=FileSettings("kv"))
    extra = json.loads(kv_transfer_config(settings, 3))["kv_connector_extra_config"]
    assert extra["memory"]["bytes"] == 300
    assert extra["file"]["path"] == str(Path("kv").resolve())


def test_the_connector_reads_what_the_command_says() -> None:
    settings = kv_settings(
        {"memory": {"bytes": "64MiB"}, "file": {"path": "/kv", "bytes": "1GiB"}, "save_decoded": "true"}
    )
    options = read_options(json.loads(kv_transfer_config(settings, 1))["kv_connector_extra_config"])
    assert options.save_decoded is True
    assert options.store.memory.bytes == 64 << 20
    assert options.store.file == FileSettings("/kv", bytes=1 << 30)


@pytest.mark.parametrize(("word", "meant"), [("yes", True), ("Off", False), ("1", True), ("n", False)])
def test_booleans_are_words_as_everywhere_else(word: str, meant: bool) -> None:
    file = {"path": "/kv", "fsync": word, "link": {"fill_on_hit": word}}
    settings = kv_settings(
        {"enabled": word, "save_decoded": word, "memory": {"prefault": word, "bytes": "1MiB"}, "file": file}
    )
    assert settings.file is not None
    assert (settings.enabled, settings.save_decoded, settings.memory.prefault) == (meant,) * 3
    assert (settings.file.fsync, settings.file.link.fill_on_hit) == (meant, meant)


@pytest.mark.parametrize(
    "wrong", [{"memry": {}}, {"memory": {"bytes": "much"}}, {"file": {}}, {"enabled": "perhaps"}]
)
def test_mistakes_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"memry|much|path|enabled"):
        kv_settings(wrong)


def test_a_workers_log_tells_whether_it_has_one(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    output = WorkerOutput(log)
    assert output.kv_layer() == ""
    log.write_text(f"INFO x {STATUS}on: memory 64 MiB\nmore\n")
    assert output.kv_layer() == "on: memory 64 MiB"
