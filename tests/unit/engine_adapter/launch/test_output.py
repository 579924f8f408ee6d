from __future__ import annotations

from pathlib import Path

from engine_adapter.launch.output import FIRST_PHASE, WorkerOutput


def test_phases_follow_the_log(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    output = WorkerOutput(log)
    assert output.phase() == FIRST_PHASE
    seen = []
    for line in (
        "(APIServer pid=1) INFO [model.py:733] Resolved architecture: LlamaForCausalLM",
        "(EngineCore pid=2) INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='x'",
        "(EngineCore pid=2) INFO [cpu_model_runner.py:68] Starting to load model /m...",
        "(EngineCore pid=2) INFO [default_loader.py:501] Loading weights took 0.01 seconds",
        "(APIServer pid=1) INFO [entry.py:140] Starting vLLM server on http://127.0.0.1:1",
    ):
        with log.open("a") as file:
            file.write(line + "\n")
        seen.append(output.phase())
    assert seen == [
        "reading the model's configuration",
        "starting the engine",
        "loading weights",
        "preparing the KV cache",
        "opening its port",
    ]


def test_what_an_earlier_process_wrote_is_not_read_again(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("ValueError: the old reason\n")
    output = WorkerOutput(log)
    output.mark()
    assert output.lines() == []
    with log.open("a") as file:
        file.write("the new one\n")
    assert output.lines() == ["the new one"]


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("x" * 100 + "\n" + "y\n" * 100_000)
    lines = WorkerOutput(log).lines()
    assert lines[-1] == "y"
    assert len(lines) < 100_000
