"""What a deployment may say about routing: priors and bounds. What can be learned is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import urlsplit

from gateway.routing.fleet import is_loopback
from gateway.routing.tiers import FileScope

POLICY_NAMES = (
    "least_load",
    "lora",
    "power_of_two",
    "prefix",
    "prefix_exact",
    "random",
    "round_robin",
    "session",
    "ttft",
)
"""Those that `policies.registry` makes."""


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Checked on construction; ValueError says which field and what would be allowed."""

    policy: str = "ttft"
    """Policy of every model that `model_policies` does not name."""
    model_policies: Mapping[str, str] = field(default_factory=dict)
    """Model name to policy name."""
    foresight: float = 2.0
    """`ttft`: seconds that one second of prefill is expected to cost later requests; 0 is greedy."""
    file_tier: FileScope = "host"
    """Who reads the KV blocks in a worker's files: workers of the same machine, or the whole `fleet`, as on a
    network file system. Blocks in Valkey and S3 count for all."""
    kv_max_blocks: int = 500_000
    """Blocks followed per worker by its KV events, some 200 bytes each."""
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
        for setting, policies in (
            ("policy", (self.policy,)),
            ("model_policies", self.model_policies.values()),
        ):
            if unknown := [name for name in policies if name not in POLICY_NAMES]:
                raise ValueError(
                    f"{setting}: no policy is called {unknown[0]!r}; there are {', '.join(POLICY_NAMES)}"
                )
        for name in ("index_bytes", "cache_tokens", "explain_records", "lora_slots", "kv_max_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"routing.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("prefill_tokens_per_s", "bytes_per_token"):
            if not getattr(self, name) > 0:
                raise ValueError(f"routing.{name} must be above 0, not {getattr(self, name)}")
        for name in ("session_load_factor", "prefix_load_factor"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"routing.{name} must be at least 1, not {getattr(self, name)}")
        if self.file_tier not in get_args(FileScope):
            raise ValueError(f"routing.file_tier is host or fleet, not {self.file_tier!r}")
        if not self.foresight >= 0:
            raise ValueError(f"routing.foresight must not be negative, not {self.foresight}")


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Other gateways in front of the same workers, told over ZMQ what this one routes. Off by default.

    A message holds hashes of prompts and no text. With a secret it is encrypted, and gateways that do not
    hold the secret are refused; without one only loopback and Unix sockets are allowed.
    """

    listen: str | None = None
    """Endpoint of this gateway, `tcp://10.0.0.2:7000` or `ipc:///run/sluice/peer`. Of several processes,
    number N listens N ports higher (or at `.N`)."""
    connect: tuple[str, ...] = ()
    """Endpoints of all others, each process of them."""
    secret_file: str | None = None
    """File with the secret that all share, 32 characters or more (`openssl rand -hex 32`)."""
    interval_s: float = 0.005
    """How long news wait for company."""

    def __post_init__(self) -> None:
        if self.connect and self.listen is None:
            raise ValueError("connect needs listen too: what a gateway hears from others it must tell them")
        for endpoint in (*((self.listen,) if self.listen is not None else ()), *self.connect):
            if not _is_private(endpoint) and self.secret_file is None:
                raise ValueError(
                    f"{endpoint!r} can be reached by others: peers on a network need a secret_file"
                )
        if not self.interval_s > 0:
            raise ValueError(f"interval_s must be above 0, not {self.interval_s}")

    def listen_of(self, process: int) -> str | None:
        """Where gateway process number `process` listens."""
        if self.listen is None or process == 0:
            return self.listen
        if self.listen.startswith("ipc://"):
            return f"{self.listen}.{process}"
        head, _, port = self.listen.rpartition(":")
        return f"{head}:{int(port) + process}"


def _is_private(endpoint: str) -> bool:
    """Can only this machine reach it? Raises ValueError for what is no endpoint."""
    parts = urlsplit(endpoint)
    if parts.scheme == "ipc" and (parts.path or parts.netloc):
        return True
    _, _, port = parts.netloc.rpartition(":")
    if parts.scheme != "tcp" or not parts.hostname or not port.isdigit():
        raise ValueError(
            f"{endpoint!r} is not a ZMQ endpoint such as ipc:///run/sluice/peer or tcp://10.0.0.2:7000"
        )
    return is_loopback(parts.hostname)
