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


@dataclass(slots=True)
class RoutingAccount:
    """`by_policy` is bounded by the number of policies."""

    by_policy: dict[str, PolicyAccount] = field(default_factory=dict)

    def predicted(self, policy: str, estimate: float, ttft: float) -> None:
        account = self._of(policy)
        account.predictions += 1
        account.estimate_s += estimate
        account.ttft_s += ttft
        account.absolute_error_s += abs(ttft - estimate)

    def ended(self, policy: str, prompt_tokens: int, cached_tokens: int) -> None:
        account = self._of(policy)
        account.ended += 1
        account.prompt_tokens += prompt_tokens
        account.cached_tokens += cached_tokens

    def _of(self, policy: str) -> PolicyAccount:
        account = self.by_policy.get(policy)
        if account is None:
            account = self.by_policy[policy] = PolicyAccount()
        return account
