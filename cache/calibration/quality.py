"""What was measured about a codec, published with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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
    kl_median: float | None = None
    """Of the contexts' own means: one context that goes wrong can outweigh all others in `kl`. None in older
    figures."""

    @property
    def times_smaller(self) -> float:
        """Than 8 bits per element without any side information; framed."""
        return 8 / self.framed_bits_per_element

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """Inverse of `record`."""
        return cls(**{one.name: record[one.name] for one in fields(cls) if one.name in record})

    def record(self) -> dict[str, Any]:
        """JSON-able values."""
        values = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return values | {"times_smaller_than_8_bit": round(self.times_smaller, 3)}


def table(rows: Sequence[Measured]) -> str:
    """Markdown, one row per codec."""
    lines = [
        "| codec | bits/element | with frame | x smaller than 8 bits | KL (nats) | KL, median context "
        "| dNLL | top-1 | task accuracy (full KV), lost and won |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy = (
            "-"
            if row.accuracy is None
            else f"{row.accuracy:.1%} ({row.accuracy_full:.1%}), -{row.worse} +{row.better}"
        )
        median = "-" if row.kl_median is None else f"{row.kl_median:.5f}"
        lines.append(
            f"| {row.codec} | {row.bits_per_element:.3f} | {row.framed_bits_per_element:.3f} "
            f"| {row.times_smaller:.2f} | {row.kl:.5f} | {median} | {row.nll_difference:+.4f} "
            f"| {row.top1:.2%} | {accuracy} |"
        )
    return "\n".join(lines)
