"""Counts of what routing did, as plain numbers that telemetry reads."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class PolicyAccount:
    """Of one policy, since the start of the process."""

    predictions: int = 0
    """Requests whose first token was seen; the sums below are over these."""
    estimate_s: float = 0.0
    ttft_s: float = 0.0
    absolute_error_s: float = 0.0
    ended: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """As the engines report them."""

    def predicted(self, estimate: float, ttft: float) -> None:
        """An estimate, and what happened."""
        self.predictions += 1
        self.estimate_s += estimate
        self.ttft_s += ttft
        self.absolute_error_s += abs(ttft - estimate)


@dataclass(slots=True)
class RoutingAccount:
    """`by_policy` is bounded by the number of policies."""

    by_policy: dict[str, PolicyAccount] = field(default_factory=dict)

    def of(self, policy: str) -> PolicyAccount:
        """The policy's account, opened if need be."""
        return self.by_policy.setdefault(policy, PolicyAccount())
