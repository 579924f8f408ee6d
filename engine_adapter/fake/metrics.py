"""`/metrics`: vLLM's names and labels, rendered from the engine's counters when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from engine_adapter.fake.block_pool import BlockPool
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.stats import Histogram, Stats

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

_ENGINE = "0"
_LABELS = ("model_name", "engine")


class _Families:
    """A collector over one moment's figures."""

    def __init__(self, config: FakeEngineConfig, stats: Stats, pool: BlockPool | None) -> None:
        self._stats = stats
        self._pool = pool
        self._config = config
        self._labels = [config.models[0].name, _ENGINE]

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        stats, pool = self._stats, self._pool
        yield self._gauge(
            "num_requests_running", "Number of requests in model execution batches.", stats.running
        )
        yield self._gauge(
            "num_requests_waiting", "Number of requests waiting to be processed.", stats.waiting
        )
        reasons = GaugeMetricFamily(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason.",
            labels=(*_LABELS, "reason"),
        )
        reasons.add_metric([*self._labels, "capacity"], stats.waiting)
        reasons.add_metric([*self._labels, "deferred"], 0)
        yield reasons
        yield self._gauge(
            "kv_cache_usage_perc",
            "KV-cache usage. 1 means 100 percent usage.",
            pool.usage if pool is not None else 0.0,
        )
        yield self._counter(
            "prefix_cache_queries",
            "Prefix cache queries, in terms of number of queried tokens.",
            pool.queried_tokens if pool is not None else 0,
        )
        yield self._counter(
            "prefix_cache_hits",
            "Prefix cache hits, in terms of number of cached tokens.",
            pool.hit_tokens if pool is not None else 0,
        )
        yield self._counter("num_preemptions", "Cumulative number of preemption from the engine.", 0)
        yield self._counter("prompt_tokens", "Number of prefill tokens processed.", stats.prompt_tokens)
        sources = CounterMetricFamily(
            "vllm:prompt_tokens_by_source", "Number of prompt tokens by source.", labels=(*_LABELS, "source")
        )
        sources.add_metric([*self._labels, "local_compute"], stats.prompt_tokens - stats.cached_tokens)
        sources.add_metric([*self._labels, "local_cache_hit"], stats.cached_tokens)
        sources.add_metric([*self._labels, "external_kv_transfer"], 0)
        yield sources
        yield self._counter("prompt_tokens_cached", "Number of cached prompt tokens.", stats.cached_tokens)
        yield self._counter(
            "generation_tokens", "Number of generation tokens processed.", stats.generation_tokens
        )
        finished = CounterMetricFamily(
            "vllm:request_success",
            "Count of successfully processed requests.",
            labels=(*_LABELS, "finished_reason"),
        )
        for reason, count in stats.finished.items():
            finished.add_metric([*self._labels, reason], count)
        yield finished
        for name, text, histogram in (
            ("time_to_first_token_seconds", "time to first token", stats.ttft),
            ("inter_token_latency_seconds", "inter-token latency", stats.itl),
            ("e2e_request_latency_seconds", "e2e request latency", stats.e2e),
            ("request_queue_time_seconds", "time spent in WAITING phase for request", stats.queue_time),
            ("request_prefill_time_seconds", "time spent in PREFILL phase for request", stats.prefill_time),
            ("request_decode_time_seconds", "time spent in DECODE phase for request", stats.decode_time),
        ):
            yield self._histogram(name, f"Histogram of {text} in seconds.", histogram)
        if pool is not None:
            yield self._cache_config(pool)
        yield from self._own()

    def _own(self) -> Iterator[Metric]:
        """What vLLM does not count."""
        aborted = CounterMetricFamily(
            "fake:aborted", "Requests whose client left, by phase.", labels=("phase",)
        )
        for phase, count in self._stats.aborted.items():
            aborted.add_metric([phase.value], count)
        yield aborted
        for name, text, value in (
            ("fake:requests", "HTTP requests of all kinds.", self._stats.requests_seen),
            ("fake:events", "Stream writes.", self._stats.events_sent),
            ("fake:faults", "Faults committed.", self._stats.faults_committed),
        ):
            yield CounterMetricFamily(name, text, value=value)
        yield GaugeMetricFamily("fake:connections", "Open connections.", value=self._stats.connections_open)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        cumulative, buckets = 0, []
        for bound, count in zip(
            [*map(str, map(float, histogram.bounds)), "+Inf"], histogram.counts, strict=True
        ):
            cumulative += count
            buckets.append((bound, cumulative))
        family.add_metric(self._labels, buckets, histogram.total)
        return family

    @staticmethod
    def _cache_config(pool: BlockPool) -> Metric:
        labels = {
            "block_size": str(pool.block_size),
            "num_gpu_blocks": str(pool.num_blocks),
            "enable_prefix_caching": "True",
            "prefix_caching_hash_algo": "sha256_cbor",
            "engine": _ENGINE,
        }
        family = GaugeMetricFamily(
            "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", labels=list(labels)
        )
        family.add_metric(list(labels.values()), 1)
        return family


def render(config: FakeEngineConfig, stats: Stats, pool: BlockPool | None) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(config, stats, pool))
    return generate_latest(registry)
