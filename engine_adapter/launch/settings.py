"""What an operator may say about the workers that Sluice starts: frozen values, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

EngineKind = Literal["vllm", "fake"]

CPU_BLOCK_MULTIPLE = 32
"""vLLM's CPU attention takes its fast path only for block sizes that are a multiple of this."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Which workers serve: started here (`workers`), elsewhere (`worker_urls`), or in a `fleet_file`."""

    kind: EngineKind = "vllm"
    """`vllm`, or `fake`: vLLM's surface with scripted time and faults, without a model."""
    model: str | None = None
    """Directory of a model, or its name on the Hugging Face hub. None is the model that ships with Sluice."""
    served_name: str | None = None
    """Name clients ask for. None derives it from `model`."""
    workers: int | None = None
    """Workers to start and supervise. None starts one, or none when workers elsewhere are named."""
    worker_urls: tuple[str, ...] = ()
    """vLLM servers that somebody else runs, e.g. `http://10.0.0.7:8000`."""
    fleet_file: str | None = None
    """A fleet file that somebody else keeps (`engine_adapter.api.write_fleet`); excludes the two above."""
    max_model_len: int | None = None
    """Longest prompt plus answer, in tokens. None takes the model's own limit."""
    kv_cache_bytes: int | None = None
    """Memory for the KV cache of one worker. None: sized from the model and free memory on a CPU, vLLM's own
    choice on a GPU."""
    block_size: int = 32
    """Tokens per KV block: the grain of prefix reuse and of cache-aware routing."""
    kv_events: bool = True
    """Let workers publish which blocks they hold, for cache-aware routing."""
    port_base: int = 18100
    """Workers listen on loopback, on the first free ports from here."""
    args: tuple[str, ...] = ()
    """More flags for vLLM's server, as on its command line; they win over Sluice's own."""
    env: dict[str, str] = field(default_factory=dict)
    """More environment variables for the workers."""

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("max_model_len", 1), ("kv_cache_bytes", 1 << 20)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.block_size < CPU_BLOCK_MULTIPLE or self.block_size % CPU_BLOCK_MULTIPLE:
            raise ValueError(f"block_size must be a multiple of {CPU_BLOCK_MULTIPLE}, got {self.block_size}")
        if not 1024 <= self.port_base <= 60000:
            raise ValueError(f"port_base must lie in 1024..60000, got {self.port_base}")
        for url in self.worker_urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"worker_urls: {url!r} is not a URL like http://127.0.0.1:8000")
        if len(set(self.worker_urls)) != len(self.worker_urls):
            raise ValueError("worker_urls names the same worker twice")
        if self.fleet_file and (self.worker_urls or self.workers):
            raise ValueError("fleet_file lists all workers; drop it, or drop workers and worker_urls")

    @property
    def started_workers(self) -> int:
        """How many workers this process has to start."""
        if self.workers is not None:
            return self.workers
        return 0 if self.worker_urls or self.fleet_file else 1


@dataclass(frozen=True, slots=True)
class SupervisionSettings:
    """Patience and persistence with one worker process. All times in seconds."""

    state_dir: str | None = None
    """Where logs and the fleet file go. None is `sluice/<port>` below the user's state directory."""
    start_timeout: float = 900.0
    """From the start of the process until it must answer; a large model from a slow disk needs long."""
    probe_interval: float = 2.0
    """Between two looks at whether a worker answers."""
    probe_timeout: float = 5.0
    """A look that takes longer has failed."""
    unresponsive_seconds: float = 60.0
    """A worker that was ready and then answers no probe for so long is killed and started again."""
    backoff_initial: float = 1.0
    """Pause before the first restart; doubles with each failure in a row, up to `backoff_max`."""
    backoff_max: float = 30.0
    """Longest pause between two restarts."""
    give_up_after: int = 5
    """Failures in a row after which a worker is given up."""
    stable_seconds: float = 120.0
    """A worker that was ready for so long has its earlier failures forgotten."""
    stop_grace: float = 10.0
    """From SIGTERM to SIGKILL."""

    def __post_init__(self) -> None:
        for name in (
            "start_timeout",
            "probe_interval",
            "probe_timeout",
            "unresponsive_seconds",
            "backoff_initial",
            "backoff_max",
            "stable_seconds",
            "stop_grace",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.give_up_after < 1:
            raise ValueError(f"give_up_after must be at least 1, got {self.give_up_after}")
