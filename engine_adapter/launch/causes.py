"""From the last output of a dead worker to one sentence that says what is wrong and what to do."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from engine_adapter.launch.lifecycle import Cause
from engine_adapter.vllm import pin

SAYS_SO_ITSELF = "sluice-worker: "
"""A line that begins so comes from our own start-up check and needs no interpretation."""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    advice: str
    permanent: bool = True
    port_taken: bool = False


def _rule(pattern: str, advice: str, *, permanent: bool = True, port_taken: bool = False) -> _Rule:
    return _Rule(re.compile(pattern), advice, permanent, port_taken)


RULES: tuple[_Rule, ...] = (
    _rule(
        r"Address already in use|EADDRINUSE|Errno 98",
        "its port was taken by another program",
        permanent=False,
        port_taken=True,
    ),
    _rule(r"No space left on device", "the disk is full: free some space", permanent=False),
    _rule(
        r"operator torchvision::nms does not exist",
        "a torchvision is installed that does not fit this torch: run `sluice install-engine`",
    ),
    _rule(r"No module named 'vllm'", "vLLM is not installed: run `sluice install-engine`"),
    _rule(
        r"model's max seq len \((?P<length>\d+)\).*?estimated maximum model length is (?P<fits>\d+)",
        "the KV cache is too small for max_model_len {length}: raise engine.kv_cache_bytes "
        "(--kv-cache-bytes), or set --max-model-len to at most {fits}",
    ),
    _rule(
        r"max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\(max_position_embeddings=(?P<limit>\d+)",
        "the model reads at most {limit} tokens: lower --max-model-len from {asked}",
    ),
    _rule(
        r"requested memory for kv \((?P<asked>[^)]*)\)",
        "not enough free memory for a KV cache of {asked}: lower engine.kv_cache_bytes (--kv-cache-bytes)",
    ),
    _rule(
        r"CUDA out of memory|CUDA error: out of memory|torch\.OutOfMemoryError",
        "the GPU has too little free memory: stop what else uses it, take a smaller model, or pass "
        "`-- --gpu-memory-utilization 0.8`",
        permanent=False,
    ),
    _rule(
        r"NVIDIA driver on your system is too old",
        f"the NVIDIA driver is too old for CUDA {pin.CUDA_VERSION}: update it to release "
        f"{pin.CUDA_DRIVER} or newer",
    ),
    _rule(
        r"no kernel image is available for execution on the device",
        "this vLLM has no kernels for a GPU of that age: take a newer GPU, or run "
        "`sluice install-engine --cpu`",
    ),
    _rule(
        r"can't allocate memory|Cannot allocate memory|MemoryError|std::bad_alloc",
        "out of memory: lower engine.kv_cache_bytes, start fewer workers or take a smaller model",
        permanent=False,
    ),
    _rule(
        r"Repo id must be in the form|does not appear to have a file named config\.json"
        r"|Invalid repository ID or local directory"
        r"|is not a local folder and is not a valid model identifier",
        "there is no model at that path: --model wants a directory with config.json, or a hub name",
    ),
    _rule(
        r"RepositoryNotFoundError|401 Client Error|GatedRepoError",
        "the hub does not hand out that model: check its name, or set HF_TOKEN for a gated one",
    ),
    _rule(
        r"LocalEntryNotFoundError|couldn't connect to '?https://huggingface|offline mode is enabled",
        "the model is not on this machine and the hub cannot be reached: give --model a local directory",
        permanent=False,
    ),
    _rule(
        r"error: unrecognized arguments: (?P<flags>.+)",
        "vLLM does not know {flags}: correct what follows `--` or engine.args",
    ),
    _rule(r"error: argument (?P<what>.+)", "vLLM refuses an argument: {what}"),
    _rule(
        r"Model architectures (?P<names>\[.*?\]) are not supported",
        "this vLLM does not know the model's architecture {names}",
    ),
)

_ERROR = re.compile(
    r"^(?:\([^)]*\) )?(?:ERROR [\d\- :]+\[[^]]*\] )?(?P<text>[\w.]*(?:Error|Exception)\b: .+)"
)
_EMPTY_WORDS = ("Engine core initialization failed", "EngineDeadError", "resource_tracker", "CancelledError")
_LONGEST = 300


def diagnose(output: Iterable[str], status: int) -> Cause:
    """Read the last lines of a worker's output and its exit status (negative: minus the signal's number)."""
    lines = [line.rstrip() for line in output]
    for line in reversed(lines):
        if line.startswith(SAYS_SO_ITSELF):
            return Cause(line.removeprefix(SAYS_SO_ITSELF), permanent=True)
    text = "\n".join(lines)
    for rule in RULES:
        if found := rule.pattern.search(text):
            return Cause(
                rule.advice.format(**found.groupdict()),
                permanent=rule.permanent,
                port_taken=rule.port_taken,
            )
    return Cause(_exit_in_words(status) + (f": {error}" if (error := _last_error(lines)) else ""))


def _last_error(lines: list[str]) -> str:
    for line in reversed(lines):
        found = _ERROR.match(line)
        if found and not any(words in line for words in _EMPTY_WORDS):
            error = found["text"]
            return error if len(error) <= _LONGEST else error[:_LONGEST] + "…"
    return ""


def _exit_in_words(status: int) -> str:
    if status >= 0:
        return f"it ended with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if -status == signal.SIGKILL:
        return f"it was killed ({name}), by hand or because the machine ran out of memory"
    return f"it was ended by {name}"
