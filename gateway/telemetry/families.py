"""Every metric of the gateway: its name, type, labels, meaning, and where in a snapshot it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from gateway.routing.fleet import Breaker, Health
from gateway.routing.kv_source import Status
from gateway.telemetry.snapshot import KV_COUNTS, HistogramData, PolicyData, SeriesData, Snapshot, WorkerData
from gateway.transport.counts import COUNTERS

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class Family:
    """A counter's name has no `_total` here; Prometheus adds it."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: Labels
    help: str
    read: Callable[[Snapshot], Samples]


@dataclass(frozen=True, slots=True)
class HistogramFamily:
    """A histogram of `/metrics`, and where a snapshot has it."""

    name: str
    labels: Labels
    help: str
    read: Callable[[Snapshot], Iterable[tuple[Labels, HistogramData]]]


def release() -> str:
    """Installed version of the product, `unknown` in a tree that was never installed."""
    try:
        return version("sluice")
    except PackageNotFoundError:
        return "unknown"


def _per_series(field: str) -> Callable[[Snapshot], Samples]:
    return lambda snapshot: (((s.worker, s.model), getattr(s, field)) for s in snapshot.series)


def _histograms(field: str) -> Callable[[Snapshot], Iterable[tuple[Labels, HistogramData]]]:
    return lambda snapshot: (((s.worker, s.model), getattr(s, field)) for s in snapshot.series)


def _split(read: Callable[[SeriesData], dict[str, int] | dict[int, int]]) -> Callable[[Snapshot], Samples]:
    def samples(snapshot: Snapshot) -> Iterator[tuple[Labels, float]]:
        for series in snapshot.series:
            for label, count in read(series).items():
                yield (series.worker, series.model, str(label)), count

    return samples


def _counts(read: Callable[[Snapshot], dict[str, int]]) -> Callable[[Snapshot], Samples]:
    return lambda snapshot: (((label,), count) for label, count in read(snapshot).items())


def _plain(field: str) -> Callable[[Snapshot], Samples]:
    return lambda snapshot: [((), getattr(snapshot, field))]


def _per_policy(field: str) -> Callable[[Snapshot], Samples]:
    assert field in PolicyData.__struct_fields__
    return lambda snapshot: (((name,), getattr(data, field)) for name, data in snapshot.policies.items())


def _states(
    read: Callable[[WorkerData], dict[str, int]], states: tuple[str, ...]
) -> Callable[[Snapshot], Samples]:
    def samples(snapshot: Snapshot) -> Iterator[tuple[Labels, float]]:
        for worker, data in snapshot.workers.items():
            seen = read(data)
            if seen:
                for state in states:
                    yield (worker, state), seen.get(state, 0)

    return samples


def _live(field: str) -> Callable[[Snapshot], Samples]:
    """A gauge of workers, of those that some live process has."""
    return lambda snapshot: (
        ((w,), getattr(data, field)) for w, data in snapshot.workers.items() if data.health
    )


def _kv_count(name: str) -> Callable[[Snapshot], Samples]:
    assert name in KV_COUNTS
    return lambda snapshot: (
        ((worker,), data.kv_counts[name]) for worker, data in snapshot.workers.items() if data.kv_counts
    )


def _kv_joins(snapshot: Snapshot) -> Iterator[tuple[Labels, float]]:
    for worker, data in snapshot.workers.items():
        if data.kv_counts:
            for result in ("joined", "ambiguous", "unmatched"):
                yield (worker, result), data.kv_counts[result]


def _stream_count(name: str) -> Callable[[Snapshot], Samples]:
    assert name in COUNTERS
    return lambda snapshot: (((label,), n) for label, n in snapshot.stream_counts.get(name, {}).items())


def _stream_gauge(name: str) -> Callable[[Snapshot], Samples]:
    return lambda snapshot: [((), snapshot.stream_gauges.get(name, 0))]


_SERIES = ("worker", "model")

STREAM_FAMILIES: tuple[Family, ...] = tuple(
    Family(f"sluice_{metric}", "counter", (label,), text, _stream_count(name))
    for metric, name, label, text in (
        ("kept_streams", "opened", "mode", "Streams that were kept in a token log."),
        ("kept_streams_ended", "ended", "status", "Of these, ended ones by how they ended."),
        (
            "kept_streams_evicted",
            "evicted",
            "bound",
            "Ended streams forgotten early, by the bound that was hit.",
        ),
        ("stream_resumes", "resumed", "path", "Readers that went on behind some event."),
        ("stream_truncations", "truncated", "path", "Readers that fell out of the ring."),
        ("stream_path_switches", "fallbacks", "reason", "Streams that the token channel gave up."),
        ("stream_delivered_events", "events", "path", "Events of kept streams that reached readers."),
        ("stream_late_events", "late", "path", "Of these, later than 0.2 s after they came from the worker."),
        (
            "stream_delivered_bytes",
            "bytes",
            "path",
            "Bytes sent to readers of kept streams, repeats included.",
        ),
        ("eloquent_packets", "packets", "kind", "Packets on token channels."),
        ("realtime_offers", "offers", "result", "Offers of calls."),
        ("realtime_calls_ended", "calls", "cause", "Calls that ended."),
        ("stream_store_errors", "mirror_errors", "operation", "Failed operations of the shared store."),
    )
) + tuple(
    Family(f"sluice_{metric}", "gauge", (), text, _stream_gauge(name))
    for metric, name, text in (
        ("kept_streams_running", "running", "Kept streams that run now."),
        ("kept_streams_held", "kept", "Streams in token logs now, ended ones included."),
        ("kept_stream_readers", "readers", "Readers of running kept streams."),
        ("token_log_bytes", "log_bytes", "Bytes in token logs."),
        ("realtime_calls", "calls", "Calls that are connected."),
        ("realtime_half_open_calls", "half_open_calls", "Calls that have not connected yet."),
    )
)

FAMILIES: tuple[Family, ...] = (
    Family(
        "sluice_requests",
        "counter",
        (*_SERIES, "end"),
        "Requests that reached a worker, by how they truly ended.",
        _split(lambda s: s.ends),
    ),
    Family(
        "sluice_responses",
        "counter",
        (*_SERIES, "status"),
        "The same requests by the HTTP status that the client saw.",
        _split(lambda s: s.statuses),
    ),
    Family(
        "sluice_refused_requests",
        "counter",
        ("code",),
        "Requests that never reached a worker, by error code.",
        _counts(lambda s: s.refusals),
    ),
    Family(
        "sluice_streams",
        "counter",
        _SERIES,
        "Requests that were answered as a stream.",
        _per_series("streams"),
    ),
    Family("sluice_stream_events", "counter", _SERIES, "Events relayed in streams.", _per_series("events")),
    Family(
        "sluice_request_bytes", "counter", _SERIES, "Bytes of request bodies.", _per_series("request_bytes")
    ),
    Family("sluice_response_bytes", "counter", _SERIES, "Bytes of answers.", _per_series("response_bytes")),
    Family(
        "sluice_prompt_tokens",
        "counter",
        _SERIES,
        "Prompt tokens, as the engine counted them.",
        _per_series("prompt_tokens"),
    ),
    Family(
        "sluice_cached_prompt_tokens",
        "counter",
        _SERIES,
        "Prompt tokens that the engine took from its prefix cache.",
        _per_series("cached_tokens"),
    ),
    Family("sluice_output_tokens", "counter", _SERIES, "Tokens generated.", _per_series("output_tokens")),
    Family(
        "sluice_retries",
        "counter",
        ("cause",),
        "Attempts at another worker, by cause.",
        _counts(lambda s: s.retries),
    ),
    Family(
        "sluice_retries_denied",
        "counter",
        (),
        "Retries that the retry budget did not allow.",
        _plain("retries_denied"),
    ),
    Family(
        "sluice_hedges", "counter", (), "Second workers asked because the first was slow.", _plain("hedges")
    ),
    Family("sluice_hedges_won", "counter", (), "Hedges that answered first.", _plain("hedges_won")),
    Family("sluice_active_requests", "gauge", (), "Inference requests in the gateway now.", _plain("active")),
    Family(
        "sluice_queued_requests", "gauge", (), "Of these, waiting for a place at a worker.", _plain("queued")
    ),
    Family(
        "sluice_worker_in_flight_requests",
        "gauge",
        ("worker",),
        "Requests sent to a worker that have not ended.",
        _live("in_flight"),
    ),
    Family(
        "sluice_worker_health",
        "gauge",
        ("worker", "state"),
        "Gateway processes that see the worker in this state.",
        _states(lambda w: w.health, get_args(Health)),
    ),
    Family(
        "sluice_worker_breaker",
        "gauge",
        ("worker", "state"),
        "Gateway processes whose circuit breaker for the worker is in this state.",
        _states(lambda w: w.breaker, get_args(Breaker)),
    ),
    Family(
        "sluice_worker_breaker_opened",
        "counter",
        ("worker",),
        "How often circuit breakers for the worker have opened.",
        lambda s: (((worker,), data.opened) for worker, data in s.workers.items()),
    ),
    Family(
        "sluice_routing_predictions",
        "counter",
        ("policy",),
        "Requests whose time to first token was predicted and then seen; the next three sum over these.",
        _per_policy("predictions"),
    ),
    Family(
        "sluice_routing_predicted_ttft_seconds",
        "counter",
        ("policy",),
        "Sum of predicted times to first token.",
        _per_policy("estimate_s"),
    ),
    Family(
        "sluice_routing_observed_ttft_seconds",
        "counter",
        ("policy",),
        "Sum of the times to first token that were seen.",
        _per_policy("ttft_s"),
    ),
    Family(
        "sluice_routing_absolute_error_seconds",
        "counter",
        ("policy",),
        "Sum of the absolute differences between the two.",
        _per_policy("absolute_error_s"),
    ),
    Family(
        "sluice_routed_requests",
        "counter",
        ("policy",),
        "Routed requests that have ended.",
        _per_policy("ended"),
    ),
    Family(
        "sluice_routed_prompt_tokens",
        "counter",
        ("policy",),
        "Their prompt tokens, as the engines counted them.",
        _per_policy("prompt_tokens"),
    ),
    Family(
        "sluice_routed_cached_prompt_tokens",
        "counter",
        ("policy",),
        "Of these, tokens that the chosen worker had in its prefix cache.",
        _per_policy("cached_tokens"),
    ),
    Family(
        "sluice_cache_mirror_entries",
        "gauge",
        ("worker",),
        "Prefixes that the router keeps in its mirror of the worker's prefix cache.",
        _live("mirror_entries"),
    ),
    Family(
        "sluice_cache_mirror_bytes",
        "gauge",
        ("worker",),
        "Prompt bytes that the router takes to be in the worker's prefix cache.",
        _live("mirror_bytes"),
    ),
    Family(
        "sluice_kv_event_streams",
        "gauge",
        ("worker", "state"),
        "Gateway processes whose subscription to the worker's KV events is in this state.",
        _states(lambda w: w.kv_streams, get_args(Status)),
    ),
    Family(
        "sluice_kv_event_blocks",
        "gauge",
        ("worker",),
        "Blocks of the worker's cache that are known from its KV events.",
        lambda s: (((worker,), data.kv_blocks) for worker, data in s.workers.items() if data.kv_streams),
    ),
    Family(
        "sluice_kv_event_batches",
        "counter",
        ("worker",),
        "Batches of KV events received.",
        _kv_count("batches"),
    ),
    Family(
        "sluice_kv_event_gaps",
        "counter",
        ("worker",),
        "Gaps in their sequence numbers, replayed or not.",
        _kv_count("gaps"),
    ),
    Family(
        "sluice_kv_event_lost_batches",
        "counter",
        ("worker",),
        "Batches that could not be replayed.",
        _kv_count("lost_batches"),
    ),
    Family(
        "sluice_kv_event_restarts",
        "counter",
        ("worker",),
        "Streams that began anew, because the engine did.",
        _kv_count("restarts"),
    ),
    Family(
        "sluice_kv_event_joins",
        "counter",
        ("worker", "result"),
        "Ended requests whose text was joined to the engine's blocks, or could not be.",
        _kv_joins,
    ),
    *STREAM_FAMILIES,
    Family(
        "sluice_access_log_dropped",
        "counter",
        (),
        "Access log records dropped because the log was not written fast enough.",
        _plain("log_dropped"),
    ),
    Family(
        "sluice_access_log_skipped",
        "counter",
        (),
        "Good requests left out of the access log, by its share and rate.",
        _plain("log_skipped"),
    ),
    Family(
        "sluice_peer_items",
        "counter",
        ("kind",),
        "News exchanged with other gateways: sent, received, dropped; messages that were refused.",
        _counts(lambda s: s.peer_items),
    ),
    Family(
        "sluice_peers",
        "gauge",
        (),
        "Other gateway processes heard from in the last minute, summed over those that heard them.",
        _plain("peers"),
    ),
    Family("sluice_processes", "gauge", (), "Gateway processes alive.", lambda s: [((), len(s.processes))]),
    Family(
        "sluice_build_info",
        "gauge",
        ("version",),
        "1; the label tells the release.",
        lambda _: [((release(),), 1)],
    ),
)

HISTOGRAMS: tuple[HistogramFamily, ...] = (
    HistogramFamily(
        "sluice_time_to_first_token_seconds",
        _SERIES,
        "From the last byte of the request to the first byte of the answer.",
        _histograms("ttft"),
    ),
    HistogramFamily(
        "sluice_inter_token_latency_seconds",
        _SERIES,
        "Between two pieces of a stream, as they came from the worker.",
        _histograms("itl"),
    ),
    HistogramFamily(
        "sluice_request_duration_seconds",
        _SERIES,
        "From the head of the request to the end of the answer.",
        _histograms("duration"),
    ),
    HistogramFamily(
        "sluice_queue_wait_seconds",
        (),
        "Wait for a place at a worker.",
        lambda s: [((), s.queue_wait)],
    ),
)
