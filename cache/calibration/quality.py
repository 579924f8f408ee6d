"""What was measured about a codec, published with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over held-out contexts, against full prefill; natural logarithms."""

    codec: str
    contexts: int
    chunk_tokens: int
    bits_per_element: float
    """Payload bytes of all chunks."""
    framed_bits_per_element: float
    """With every frame's head."""
    kl: float
    kl_worst_context: float
    nll_difference: float
    top1: float
    accuracy_full: float | None
    accuracy: float | None
    """Share of right greedy replies, where the contexts ask something."""
    worse: int
    better: int
    """Replies that were right only with full KV, and only with the codec's."""

    @property
    def times_smaller(self) -> float:
        """Than 8 bits per element without any side information; framed."""
        return 8 / self.framed_bits_per_element

    def record(self) -> dict[str, Any]:
        """JSON-able values."""
        values = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return values | {"times_smaller_than_8_bit": round(self.times_smaller, 3)}
