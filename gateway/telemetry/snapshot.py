"""All numbers of one gateway process at one moment, as plain data that can be stored and added up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from gateway.relay.accounting import RETRY_CAUSES, Accounting, Histogram, Series
from gateway.relay.breaker import Breakers
from gateway.routing.account import RoutingAccount
from gateway.routing.fleet import Fleet
from gateway.routing.kv_source import SourceReport
from gateway.routing.peers import PeerExchange
from gateway.routing.state import WorkerState
from gateway.telemetry.access_log import AccessLog
from gateway.transport.counts import COUNTERS, StreamSources

K = TypeVar("K")
T = TypeVar("T")


class HistogramData(msgspec.Struct, array_like=True):
    """Counts by bucket and the total, as processes write them to each other."""

    bounds: tuple[float, ...]
    counts: list[int]
    """Per bucket, not cumulative; one more than there are bounds."""
    total: float

    def add(self, other: HistogramData) -> None:
        """Raises ValueError when the buckets differ, as those of two releases may."""
        if self.bounds != other.bounds:
            raise ValueError("histograms with different buckets cannot be added")
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class SeriesData(msgspec.Struct, array_like=True):
    """One (worker, model); fields as in `accounting.Series`."""

    worker: str
    model: str
    ends: dict[str, int]
    statuses: dict[int, int]
    ttft: HistogramData
    itl: HistogramData
    duration: HistogramData
    streams: int
    events: int
    request_bytes: int
    response_bytes: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


class WorkerData(msgspec.Struct, array_like=True):
    """How one process sees a worker; `processes` adds these up into numbers of processes."""

    in_flight: int
    health: dict[str, int]
    """Health -> processes that see it so."""
    breaker: dict[str, int]
    opened: int
    """How often breakers have opened."""
    mirror_entries: int = 0
    mirror_bytes: int = 0
    kv_streams: dict[str, int] = {}
    """State of the subscription to KV events -> processes that have it in this state."""
    kv_blocks: int = 0
    kv_counts: dict[str, int] = {}
    """By KV_COUNTS, whose fields are those of `kv_source.SourceReport`."""

    def counters(self) -> WorkerData:
        """Without what is true of a live process only."""
        return WorkerData(0, {}, {}, self.opened, kv_counts=self.kv_counts)


PEER_COUNTS = ("sent", "received", "refused", "dropped")
KV_COUNTS = ("batches", "gaps", "lost_batches", "restarts", "joined", "ambiguous", "unmatched")


class PolicyData(msgspec.Struct, array_like=True):
    """Fields as in `routing.account.PolicyAccount`."""

    predictions: int
    estimate_s: float
    ttft_s: float
    absolute_error_s: float
    ended: int
    prompt_tokens: int
    cached_tokens: int


class Snapshot(msgspec.Struct):
    """Counters, which outlive their process, and gauges, which do not (see `without_gauges`)."""

    pid: int
    taken: float
    """Unix time."""
    series: list[SeriesData]
    retries: dict[str, int]
    retries_denied: int
    hedges: int
    hedges_won: int
    refusals: dict[str, int]
    queue_wait: HistogramData
    policies: dict[str, PolicyData]
    workers: dict[str, WorkerData]
    log_dropped: int
    log_skipped: int
    peer_items: dict[str, int]
    """By PEER_COUNTS, whose fields are those of `peers.PeerExchange`."""
    peers: int
    """Gateway processes that were heard from lately, added up over the processes that heard them."""
    queued: int
    active: int
    processes: list[int]
    """Ids of the live processes that are counted in here."""

    stream_counts: dict[str, dict[str, int]] = {}
    """Of kept streams and calls, by `transport.counts.COUNTERS` and then by label."""
    stream_gauges: dict[str, int] = {}
    """By `transport.counts.StreamSources.gauges`."""

    def without_gauges(self) -> Snapshot:
        """What stays of a process that has ended."""
        workers = {worker: data.counters() for worker, data in self.workers.items()}
        return msgspec.structs.replace(
            self, workers=workers, queued=0, active=0, peers=0, processes=[], stream_gauges={}
        )


@dataclass(slots=True)
class Sources:
    """Where the numbers of this process come from."""

    accounting: Accounting
    fleet: Fleet
    breakers: Breakers | None = None
    routing: RoutingAccount | None = None
    access_log: AccessLog | None = None
    states: Callable[[], list[WorkerState]] | None = None
    """`Router.states`."""
    kv_reports: Callable[[], list[SourceReport]] | None = None
    """`KVEventFollower.reports`."""
    streams: StreamSources | None = None
    peers: Callable[[], PeerExchange | None] | None = None
    """None while there are no peers."""


def take(sources: Sources) -> Snapshot:
    """Copy the numbers of this process."""
    accounting = sources.accounting
    accounting.settle()
    peers = sources.peers() if sources.peers is not None else None
    policies = sources.routing.by_policy if sources.routing is not None else {}
    return Snapshot(
        pid=os.getpid(),
        taken=time.time(),
        series=[_series(series) for series in accounting.series.values()],
        retries=dict.fromkeys(RETRY_CAUSES, 0) | accounting.retries,
        retries_denied=accounting.retries_denied,
        hedges=accounting.hedges,
        hedges_won=accounting.hedges_won,
        refusals=dict(accounting.refusals),
        queue_wait=_histogram(accounting.queue_wait),
        policies={
            name: PolicyData(*(getattr(account, f) for f in PolicyData.__struct_fields__))
            for name, account in policies.items()
        },
        workers=_workers(sources),
        log_dropped=sources.access_log.dropped if sources.access_log is not None else 0,
        log_skipped=sources.access_log.skipped if sources.access_log is not None else 0,
        peer_items={} if peers is None else {name: getattr(peers, name) for name in PEER_COUNTS},
        peers=0 if peers is None else peers.heard(time.monotonic()),
        queued=accounting.queued,
        active=accounting.active,
        processes=[os.getpid()],
        stream_counts=_streams(sources.streams),
        stream_gauges=sources.streams.gauges() if sources.streams is not None else {},
    )


def merge(first: Snapshot, others: Iterable[Snapshot]) -> Snapshot:
    """Add up the numbers of several processes; `first` keeps its identity, no argument is changed."""
    total = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Snapshot)
    series = {(s.worker, s.model): s for s in total.series}
    for other in others:
        for theirs in other.series:
            mine = series.get((theirs.worker, theirs.model))
            if mine is None:
                series[theirs.worker, theirs.model] = _copy(theirs)
            else:
                _add_series(mine, theirs)
        _add_counts(total.retries, other.retries)
        _add_counts(total.refusals, other.refusals)
        _add_counts(total.peer_items, other.peer_items)
        total.queue_wait.add(other.queue_wait)
        for name, policy in other.policies.items():
            if name in total.policies:
                _add_fields(total.policies[name], policy, PolicyData.__struct_fields__)
            else:
                total.policies[name] = _copy(policy)
        for name, worker in other.workers.items():
            if name in total.workers:
                known = total.workers[name]
                _add_fields(
                    known, worker, ("in_flight", "opened", "mirror_entries", "mirror_bytes", "kv_blocks")
                )
                for counts in ("health", "breaker", "kv_streams", "kv_counts"):
                    _add_counts(getattr(known, counts), getattr(worker, counts))
            else:
                total.workers[name] = _copy(worker)
        for name, by_label in other.stream_counts.items():
            _add_counts(total.stream_counts.setdefault(name, {}), by_label)
        _add_counts(total.stream_gauges, other.stream_gauges)
        _add_fields(total, other, _PLAIN_COUNTS)
        total.processes += other.processes
    total.series = list(series.values())
    return total


_PLAIN_COUNTS = (
    "retries_denied",
    "hedges",
    "hedges_won",
    "log_dropped",
    "log_skipped",
    "queued",
    "active",
    "peers",
)
_SERIES_COUNTS = (
    "streams",
    "events",
    "request_bytes",
    "response_bytes",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
)


def _workers(sources: Sources) -> dict[str, WorkerData]:
    workers = {w.id: WorkerData(w.in_flight, {w.health: 1}, {w.breaker: 1}, 0) for w in sources.fleet}
    for breaker in sources.breakers or ():
        if (data := workers.get(breaker.worker.id)) is not None:
            data.opened = breaker.opened
    for state in sources.states() if sources.states is not None else ():
        if (data := workers.get(state.worker.id)) is not None:
            data.mirror_entries, data.mirror_bytes = len(state.cache), state.cache.used
    for report in sources.kv_reports() if sources.kv_reports is not None else ():
        if (data := workers.get(report.worker)) is not None:
            data.kv_streams = {report.status: 1}
            data.kv_blocks = report.blocks
            data.kv_counts = {name: getattr(report, name) for name in KV_COUNTS}
    return workers


def _streams(streams: StreamSources | None) -> dict[str, dict[str, int]]:
    if streams is None:
        return {}
    return {name: dict(getattr(streams.counts, name)) for name in COUNTERS}


def _series(series: Series) -> SeriesData:
    return SeriesData(
        series.worker,
        series.model,
        dict(series.ends),
        dict(series.statuses),
        _histogram(series.ttft),
        _histogram(series.itl),
        _histogram(series.duration),
        *(getattr(series, name) for name in _SERIES_COUNTS),
    )


def _histogram(histogram: Histogram) -> HistogramData:
    return HistogramData(histogram.bounds, list(histogram.counts), histogram.total)


def _add_series(mine: SeriesData, theirs: SeriesData) -> None:
    _add_counts(mine.ends, theirs.ends)
    _add_counts(mine.statuses, theirs.statuses)
    mine.ttft.add(theirs.ttft)
    mine.itl.add(theirs.itl)
    mine.duration.add(theirs.duration)
    _add_fields(mine, theirs, _SERIES_COUNTS)


def _add_counts(mine: dict[K, int], theirs: dict[K, int]) -> None:
    for key, count in theirs.items():
        mine[key] = mine.get(key, 0) + count


def _add_fields(mine: T, theirs: T, names: Iterable[str]) -> None:
    for name in names:
        setattr(mine, name, getattr(mine, name) + getattr(theirs, name))


def _copy(data: T) -> T:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(data), type=type(data))
