"""What a fake engine is told at start: small frozen records, validated when they are built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engine_adapter.fake.faults import Fault
from engine_adapter.fake.tokens import WORDS, Vocabulary

DEFAULT_MAX_MODEL_LEN = 131_072
"""Context length in tokens when nothing bounds it earlier."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One name in `/v1/models`.

    A model with a `parent` is a LoRA adapter: it is listed with its parent, and its KV blocks hash apart
    from the base model's, as vLLM hashes them (`("lora", name, root)` in every block).
    """

    name: str
    root: str | None = None
    """Model path that `/v1/models` shows; the name itself if None."""
    parent: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a served model needs a non-empty name")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the scripted engine takes. All zero by default: every answer is immediate.

    Time to first token = waiting in the queue + `prefill_base_s` + uncached tokens / `prefill_tokens_per_s`;
    inter-token latency = `itl_base_s` + `itl_slope_s` × (requests running). `speed` divides every duration.
    """

    prefill_base_s: float = 0.0
    prefill_tokens_per_s: float = math.inf
    prefill_slots: int = 1
    """Prefills that may run at once; a real engine's token budget is spent by about one. 0 = no bound."""
    itl_base_s: float = 0.0
    itl_slope_s: float = 0.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if min(self.prefill_base_s, self.itl_base_s, self.itl_slope_s) < 0 or self.prefill_slots < 0:
            raise ValueError("durations and prefill_slots must not be negative")
        if not (self.prefill_tokens_per_s > 0 and self.speed > 0):
            raise ValueError("prefill_tokens_per_s and speed must be positive")

    def prefill_s(self, uncached_tokens: int) -> float:
        """Seconds one prefill of `uncached_tokens` takes once it has a slot."""
        return (self.prefill_base_s + uncached_tokens / self.prefill_tokens_per_s) / self.speed

    def itl_s(self, running: int) -> float:
        """Seconds between two tokens of one request while `running` requests share the engine."""
        return (self.itl_base_s + self.itl_slope_s * running) / self.speed


@dataclass(frozen=True, slots=True)
class PrefixCacheConfig:
    """The KV cache: `num_blocks` blocks of `block_size` tokens, evicted least recently used, leaf first."""

    num_blocks: int = 4096
    block_size: int = 32
    hash_seed: str = "vllm-none-hash"
    """vLLM's default seed of `sha256_cbor` hashes; equal to `PYTHONHASHSEED` of a worker that sets it."""

    def __post_init__(self) -> None:
        if self.num_blocks < 1 or self.block_size < 1:
            raise ValueError("num_blocks and block_size must be at least 1")


@dataclass(frozen=True, slots=True)
class KVEventsConfig:
    """Where KV events are published. Port 0 binds a free port; `/kv_event_sources` tells which."""

    endpoint: str = "tcp://127.0.0.1:0"
    replay_endpoint: str | None = "tcp://127.0.0.1:0"
    topic: str = "kv"
    buffer_steps: int = 10_000
    """Batches kept for replay."""
    hwm: int = 100_000
    int_hashes: bool = True
    """Publish the low 64 bits of each hash, vLLM's default, instead of all 32 bytes."""
    lose_every: int = 0
    """Keep every N-th batch from the wire, but not from replay: its sequence number is used up; 0 = never."""
    lazy_clear: bool = False
    """Publish `AllBlocksCleared` with the next batch, as an idle vLLM does, instead of at once."""

    def __post_init__(self) -> None:
        if self.buffer_steps < 0 or self.lose_every < 0:
            raise ValueError("buffer_steps and lose_every must not be negative")


@dataclass(frozen=True, slots=True)
class FakeEngineConfig:
    """Everything `FakeEngine` needs. The defaults listen on a free loopback port and answer at once."""

    host: str = "127.0.0.1"
    port: int = 0
    control_port: int | None = None
    """A second listener that no fault touches, for `/fake/*` while the first refuses; 0 = any free port."""
    models: tuple[ServedModel, ...] = (ServedModel("fake"),)
    max_model_len: int | None = None
    """Context length in tokens; None = what the KV cache holds, at most 131,072."""
    max_num_seqs: int = 256
    timing: Timing = field(default_factory=Timing)
    prefix_cache: PrefixCacheConfig | None = field(default_factory=PrefixCacheConfig)
    """None serves without a KV cache: nothing is hashed, nothing is ever cached."""
    kv_events: KVEventsConfig | None = None
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    answer_tokens: int = 64
    """Length at which an answer ends by itself (`stop`); `max_tokens` may end it earlier (`length`)."""
    vocabulary: Vocabulary = WORDS
    embedding_dimensions: int = 64
    prompt_tokens_details: bool = True
    """Report `cached_tokens`, as vLLM does with `--enable-prompt-tokens-details`."""
    keep_alive_s: float | None = None
    """Close connections that were idle so long, as uvicorn does after 5 s; None keeps them."""
    record_requests: int = 0
    """How many of the latest requests to keep with headers and body, for tests to look at."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("a fake engine serves at least one model")
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"two served models have the same name: {sorted(names)}")
        for model in self.models:
            if model.parent is not None and model.parent not in names:
                raise ValueError(f"adapter {model.name!r} names parent {model.parent!r}, which is not served")
        if self.max_num_seqs < 1 or self.answer_tokens < 1 or self.embedding_dimensions < 1:
            raise ValueError("max_num_seqs, answer_tokens and embedding_dimensions must be at least 1")
        if self.kv_events is not None and self.prefix_cache is None:
            raise ValueError("KV events need a prefix cache; give prefix_cache or drop kv_events")
        cache = self.prefix_cache
        if self.max_model_len is not None and cache is not None:
            capacity = cache.num_blocks * cache.block_size
            if capacity < self.max_model_len:
                raise ValueError(
                    f"the KV cache holds {capacity} tokens, less than max_model_len {self.max_model_len}; "
                    "raise num_blocks or lower max_model_len"
                )

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""
        if self.max_model_len is not None:
            return self.max_model_len
        if self.prefix_cache is None:
            return DEFAULT_MAX_MODEL_LEN
        return min(DEFAULT_MAX_MODEL_LEN, self.prefix_cache.num_blocks * self.prefix_cache.block_size)

    def served(self, name: str | None) -> ServedModel | None:
        """The model of that name, the first one if the request names none, None if it is not served."""
        if not name:
            return self.models[0]
        for model in self.models:
            if model.name == name:
                return model
        return None
