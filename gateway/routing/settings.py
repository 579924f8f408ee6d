"""What a deployment may say about routing: priors and bounds. What can be learned is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Checked on construction; ValueError says which field and what would be allowed."""

    policy: str = "ttft"
    """Policy of every model that `model_policies` does not name."""
    model_policies: Mapping[str, str] = field(default_factory=dict)
    """Model name to policy name."""
    foresight: float = 2.0
    """`ttft`: seconds that one second of prefill is expected to cost later requests; 0 is greedy."""
    index_bytes: int = 64 << 20
    """Bound on the memory of the prefix index, all workers together."""
    cache_tokens: int = 2_000_000
    """Size of a worker's prefix cache until it is known or learned."""
    prefill_tokens_per_s: float = 8_000.0
    """Prefill rate of a worker until it is learned."""
    bytes_per_token: float = 4.0
    """JSON bytes per prompt token until it is learned."""
    session_load_factor: float = 1.25
    """`session`: a worker takes at most this multiple of the mean load (consistent hashing, bounded load)."""
    prefix_load_factor: float = 1.5
    """`prefix`, `prefix_exact`, `lora`: affinity yields to a queue above 2 + this multiple of the mean."""
    lora_slots: int = 1
    """`lora`: adapters that a worker keeps on its device (vLLM's `--max-loras`)."""
    explain_records: int = 512
    """Decisions that `GET /admin/route/explain` can look back on."""
    seed: int | None = None
    """Makes `random` and `power_of_two` repeatable."""

    def __post_init__(self) -> None:
        for name in ("index_bytes", "cache_tokens", "explain_records", "lora_slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"routing.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("prefill_tokens_per_s", "bytes_per_token"):
            if not getattr(self, name) > 0:
                raise ValueError(f"routing.{name} must be above 0, not {getattr(self, name)}")
        for name in ("session_load_factor", "prefix_load_factor"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"routing.{name} must be at least 1, not {getattr(self, name)}")
        if not self.foresight >= 0:
            raise ValueError(f"routing.foresight must not be negative, not {self.foresight}")
