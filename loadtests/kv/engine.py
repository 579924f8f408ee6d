"""A vLLM engine inside this process, stepped by hand: what measurements and equality checks drive."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BLOCK_TOKENS = 32
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    id: str
    tokens: tuple[int, ...]
    cached_tokens: int
    """Of its prompt, as vLLM counts them: from the engine's prefix cache or the KV layer."""
    sources: Mapping[str, int]
    """Prompt tokens by source, as the KV layer tells; empty without one."""


class Engine:
    """One engine, no server. Not thread-safe."""

    def __init__(self, llm: Any) -> None:
        self._engine = llm.llm_engine
        self._started: dict[str, float] = {}
        self.first_token: dict[str, float] = {}
        """Seconds from adding a request to its first token."""

    @property
    def scheduler(self) -> Any:
        return self._engine.engine_core.engine_core.scheduler

    @property
    def connector(self) -> Any:
        """vLLM's scheduler-side connector, None without."""
        return self.scheduler.get_kv_connector()

    @property
    def store(self) -> Any:
        """The store of our connector."""
        return self.connector._scheduler.store

    @property
    def busy(self) -> bool:
        return bool(self._engine.has_unfinished_requests())

    def add(self, request_id: str, tokens: Sequence[int], answer_tokens: int = 1, **more: Any) -> None:
        """Queue a request for greedy decoding; `more` is for vLLM, e.g. `lora_request`, `cache_salt`."""
        from vllm import SamplingParams

        prompt: dict[str, Any] = {"prompt_token_ids": list(tokens)}
        if salt := more.pop("cache_salt", None):
            prompt["cache_salt"] = salt
        params = SamplingParams(temperature=0, max_tokens=answer_tokens, ignore_eos=True, detokenize=False)
        self._started[request_id] = time.perf_counter()
        self._engine.add_request(request_id, prompt, params, **more)

    def step(self) -> list[Answer]:
        """One engine step; the requests that it finished."""
        finished = []
        for output in self._engine.step():
            tokens = output.outputs[0].token_ids
            request_id = output.request_id
            if tokens and request_id not in self.first_token and request_id in self._started:
                self.first_token[request_id] = time.perf_counter() - self._started.pop(request_id)
            if output.finished:
                told = (output.kv_transfer_params or {}).get("sluice", {})
                sources = told.get("prompt_tokens", {})
                finished.append(
                    Answer(request_id, tuple(tokens), output.num_cached_tokens or 0, dict(sources))
                )
        return finished

    def abort(self, request_id: str) -> None:
        self._engine.abort_request([request_id])

    def run(
        self, prompts: Mapping[str, Sequence[int]], answer_tokens: int = 1, **more: Any
    ) -> dict[str, Answer]:
        """All of these at once; returns when all are answered."""
        for request_id, tokens in prompts.items():
            self.add(request_id, tokens, answer_tokens, **more)
        answers: dict[str, Answer] = {}
        while len(answers) < len(prompts):
            answers |= {answer.id: answer for answer in self.step()}
        return answers

    def ask(self, tokens: Sequence[int], answer_tokens: int = 1, **more: Any) -> tuple[Answer, float]:
        """One request alone: its answer and the seconds to its first token."""
        request_id = f"ask-{time.perf_counter_ns()}"
        answer = self.run({request_id: tokens}, answer_tokens, **more)[request_id]
        return answer, self.first_token.pop(request_id)

    def reset_prefix_cache(self, running: bool = False) -> bool:
        """Forget what vLLM's own prefix cache holds; the KV layer keeps its own."""
        return bool(self.scheduler.reset_prefix_cache(reset_running_requests=running))

    def preemptions(self) -> int:
        """Requests that had to give their blocks back, of those that run or wait now."""
        return sum(request.num_preemptions for request in self.scheduler.requests.values())


@contextlib.contextmanager
def engine(
    model: str, *, kv: Mapping[str, Any] | None = None, kv_bytes: int = 1 << 29, **options: Any
) -> Iterator[Engine]:
    """Start an engine on a CPU, and end it. `kv` is vLLM's `kv_transfer_config`, `options` its engine
    arguments."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))
    from vllm import LLM

    arguments: dict[str, Any] = {
        "max_model_len": 4096,
        "enforce_eager": True,
        "block_size": BLOCK_TOKENS,
        "kv_cache_memory_bytes": kv_bytes,
        "distributed_executor_backend": "uni",
        "disable_log_stats": True,
        "kv_transfer_config": dict(kv) if kv is not None else None,
    }
    with _unseen("llvmlite.binding.ffi"):
        llm = LLM(model=model, **(arguments | options))
    try:
        yield Engine(llm)
    finally:
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()


@contextlib.contextmanager
def _unseen(module: str) -> Iterator[None]:
    """Take a module out of the list while an engine starts.

    vLLM looks there at every object for kernels of its own, and one of llvmlite's breaks that search. Numba
    brings it in, after a worker's start; only here a second engine starts in the same process.
    """
    hidden = sys.modules.pop(module, None)
    try:
        yield
    finally:
        if hidden is not None:
            sys.modules[module] = hidden


def sluice(**extra: Any) -> dict[str, Any]:
    """A `kv_transfer_config` with our connector; `extra` are the KV layer's settings."""
    import json

    from engine_adapter.launch.kv import kv_settings, kv_transfer_config

    config: dict[str, Any] = json.loads(kv_transfer_config(kv_settings(extra), 1))
    return config


def random_tokens(count: int, seed: int, vocabulary: int = 3800) -> list[int]:
    """Token ids that no other seed repeats."""
    source = random.Random(seed)
    return [source.randrange(10, vocabulary) for _ in range(count)]
