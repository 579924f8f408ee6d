from __future__ import annotations

import math
import signal
import subprocess
import sys
from typing import Any
from urllib.request import urlopen

import pytest

from engine_adapter.fake import (
    MIXED,
    FakeEngineConfig,
    Fault,
    KVEventsConfig,
    PrefixCacheConfig,
    ServedModel,
    Timing,
)
from engine_adapter.fake.__main__ import parse_args


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models": ()}, "at least one model"),
        ({"models": (ServedModel("a"), ServedModel("a"))}, "same name"),
        ({"models": (ServedModel("a", parent="b"),)}, "not served"),
        ({"max_num_seqs": 0}, "at least 1"),
        ({"prefix_cache": None, "kv_events": KVEventsConfig()}, "need a prefix cache"),
        ({"prefix_cache": PrefixCacheConfig(2, 8), "max_model_len": 17}, "holds 16 tokens"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FakeEngineConfig(**fields)


@pytest.mark.parametrize("fields", [{"itl_base_s": -1}, {"speed": 0}, {"prefill_tokens_per_s": 0}])
def test_a_timing_that_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Timing(**fields)  # type: ignore[arg-type]


def test_the_context_is_what_the_cache_holds() -> None:
    assert FakeEngineConfig(prefix_cache=PrefixCacheConfig(4, 8)).context_length == 32
    assert FakeEngineConfig(prefix_cache=None).context_length == 131_072
    assert FakeEngineConfig(max_model_len=100).context_length == 100


def test_flags_become_the_config() -> None:
    config = parse_args(
        [
            "--port",
            "0",
            "--control-port",
            "0",
            "--model",
            "a",
            "--model",
            "b",
            "--lora",
            "ad=/lora",
            "--max-num-seqs",
            "8",
            "--itl",
            "0.02",
            "--speed",
            "2",
            "--prefill-rate",
            "5000",
            "--num-blocks",
            "100",
            "--block-size",
            "16",
            "--max-model-len",
            "1600",
            "--vocabulary",
            "mixed",
            "--kv-events",
            "tcp://127.0.0.1:0",
            "--lose-kv-events",
            "10",
        ]
        + ["--fault", "cut; point=event; count=1"]
    )
    assert config == FakeEngineConfig(
        control_port=0,
        models=(ServedModel("a"), ServedModel("b"), ServedModel("ad", "/lora", "a")),
        max_model_len=1600,
        max_num_seqs=8,
        timing=Timing(prefill_tokens_per_s=5000, itl_base_s=0.02, speed=2),
        prefix_cache=PrefixCacheConfig(100, 16),
        kv_events=KVEventsConfig(endpoint="tcp://127.0.0.1:0", replay_endpoint=None, lose_every=10),
        faults=(Fault("cut", point="event", count=1),),
        vocabulary=MIXED,
    )


def test_no_flags_give_the_defaults() -> None:
    assert parse_args(["--port", "0"]) == FakeEngineConfig()
    assert parse_args([]).timing.prefill_tokens_per_s == math.inf


@pytest.mark.parametrize("flags", [["--fault", "explode"], ["--num-blocks", "0"], ["--speed", "0"]])
def test_a_wrong_flag_ends_with_a_message(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(flags)
    assert "error:" in capsys.readouterr().err


def test_as_a_process_it_tells_its_url_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "engine_adapter.fake", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().rpartition(" ")[2].strip()
        with urlopen(f"{url}/health") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
