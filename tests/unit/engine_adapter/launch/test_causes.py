"""Real last words of vLLM workers, and the sentence a person gets for each."""

from __future__ import annotations

import pytest

from engine_adapter.launch.causes import diagnose

ENGINE_FAILED = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)

LAST_WORDS = {
    "kv_cache": (
        "ValueError: To serve at least one request with the model's max seq len (4096), (0.01 GiB KV cache "
        "is needed, which is larger than the available KV cache memory (0.0 GiB). Based on the available "
        "memory, the estimated maximum model length is 480. Try increasing `gpu_memory_utilization`\n"
        + ENGINE_FAILED
    ),
    "too_long": (
        "  Value error, User-specified max_model_len (999999) is greater than the derived max_model_len "
        "(max_position_embeddings=4096.0 or model_max_length=None in model's config.json)."
    ),
    "kv_memory": (
        "ValueError: Available memory on node 0 (6.96/8.21 GiB) on kv cache allocation is less than "
        "requested memory for kv (931.32 GiB). Decrease --kv-cache-memory-bytes\n" + ENGINE_FAILED
    ),
    "no_model": (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': '/models/nothere'. Use `repo_type` argument if needed."
    ),
    "no_hub": "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find",
    "bad_flag": "server.py: error: unrecognized arguments: --nonsense",
    "port": "OSError: [Errno 98] Address already in use",
    "torchvision": "RuntimeError: operator torchvision::nms does not exist",
    "no_vllm": "ModuleNotFoundError: No module named 'vllm'",
    "gpu_memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "driver": (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update your "
        "GPU driver by downloading and installing a new version"
    ),
    "old_gpu": "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
    "own_check": "sluice-worker: vLLM 0.31.0 is installed, this Sluice needs 0.32.0: "
    "run `sluice install-engine`",
}

EXPECTED = {
    "kv_cache": ("max_model_len 4096", "at most 480"),
    "too_long": ("at most 4096 tokens", "999999"),
    "kv_memory": ("931.32 GiB", "kv_cache_bytes"),
    "no_model": ("no model at that path",),
    "no_hub": ("hub cannot be reached", "local directory"),
    "bad_flag": ("--nonsense",),
    "port": ("port was taken",),
    "torchvision": ("sluice install-engine",),
    "no_vllm": ("sluice install-engine",),
    "gpu_memory": ("GPU has too little free memory",),
    "driver": ("driver is too old for CUDA 13.0", "release 580"),
    "old_gpu": ("no kernels for a GPU of that age", "sluice install-engine --cpu"),
    "own_check": ("vLLM 0.31.0 is installed", "sluice install-engine"),
}
WORTH_ANOTHER_TRY = {"port", "no_hub", "gpu_memory"}


@pytest.mark.parametrize("case", LAST_WORDS)
def test_known_causes_are_explained(case: str) -> None:
    cause = diagnose(LAST_WORDS[case].splitlines(), status=1)
    for words in EXPECTED[case]:
        assert words in cause.text
    assert cause.permanent == (case not in WORTH_ANOTHER_TRY)
    assert cause.port_taken == (case == "port")


def test_the_last_meaningful_error_is_quoted() -> None:
    output = [
        "(EngineCore pid=9) ERROR 11-24 05:58:18 [core.py:1510] ValueError: the real reason",
        "Traceback (most recent call last):",
        ENGINE_FAILED,
        "resource_tracker: UserWarning: leaked semaphore",
    ]
    cause = diagnose(output, status=1)
    assert cause.text == "it ended with status 1: ValueError: the real reason"
    assert not cause.permanent


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "status 0"), (-9, "ran out of memory"), (-11, "SIGSEGV"), (-200, "signal 200")],
)
def test_silence_is_explained_by_the_exit_status(status: int, words: str) -> None:
    assert words in diagnose([], status).text


def test_a_very_long_error_is_cut() -> None:
    assert len(diagnose(["ValueError: " + "x" * 5000], 1).text) < 400
