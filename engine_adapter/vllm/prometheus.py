"""The way of the KV layer's numbers to the worker's /metrics.

vLLM asks the connector for statistics after each step, carries them to the process that serves HTTP (which
may be another) and there hands them to `PromMetrics`. What travels is always the sum since the start, so a
report may get lost; the receiving end adds the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

from cache.counters import StoreStats
from engine_adapter.vllm.sources import BOARD
from engine_adapter.vllm.stats import FAMILIES, PREFIX, Totals, samples

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class ConnectorStats(KVConnectorStats):  # type: ignore[misc]
    """`data["samples"]`: what `samples` yields, as lists that any serializer takes; `data["requests"]`: the
    latest ones admitted, with their sources."""

    @classmethod
    def of(cls, totals: Totals, store: StoreStats | None) -> ConnectorStats:
        return cls(
            {
                "samples": [[name, list(labels), value] for name, labels, value in samples(totals, store)],
                "requests": [[request_id, sources] for request_id, sources in totals.recent],
            }
        )

    def aggregate(self, other: KVConnectorStats) -> ConnectorStats:
        """The later of two: both are sums since the start."""
        return ConnectorStats(other.data or self.data)

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's own log line."""
        shown = {"prompt_tokens", "transfer_bytes", "failed_blocks", "damaged_slots"}
        return {
            "_".join([name, *labels]): value for name, labels, value in self.data["samples"] if name in shown
        }

    def is_empty(self) -> bool:
        return not self.data.get("samples")

    def reset(self) -> None:
        self.data.clear()


class PromMetrics(KVConnectorPromMetrics):  # type: ignore[misc]
    """Lives in the process that serves /metrics."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        metric_types: dict[type, type],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._seen: dict[tuple[int, str, tuple[str, ...]], float] = {}
        self._metrics: dict[str, Any] = {}
        for name, family in FAMILIES.items():
            make = self._gauge_cls if family.kind == "gauge" else self._counter_cls
            self._metrics[name] = make(
                name=PREFIX + name, documentation=family.help, labelnames=[*labelnames, *family.labels]
            )

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Show the newest sums of an engine."""
        for request_id, sources in transfer_stats_data.get("requests", ()):
            BOARD.note(request_id, sources)
        engine = self.per_engine_labelvalues[engine_idx]
        for name, labels, value in transfer_stats_data.get("samples", ()):
            metric = self._metrics[name].labels(*engine, *labels)
            if FAMILIES[name].kind == "gauge":
                metric.set(value)
                continue
            known = (engine_idx, name, tuple(labels))
            metric.inc(max(0.0, value - self._seen.get(known, 0.0)))
            self._seen[known] = value
