from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from engine_adapter.api import WorkerInfo
from engine_adapter.vllm.stats import FAMILIES as KV_FAMILIES
from engine_adapter.vllm.stats import PREFIX
from gateway.relay.accounting import Accounting
from gateway.relay.breaker import Breakers
from gateway.relay.settings import HealthChecks
from gateway.routing.account import RoutingAccount
from gateway.routing.fleet import Fleet
from gateway.routing.kv_source import SourceReport
from gateway.routing.router import Router
from gateway.telemetry.families import FAMILIES, HISTOGRAMS
from gateway.telemetry.metrics import Exposition
from gateway.telemetry.snapshot import Sources, take

DOCUMENT = Path(__file__).parents[4] / "docs" / "metrics.md"


def sources() -> Sources:
    fleet = Fleet()
    fleet.update([WorkerInfo("w0", "http://127.0.0.1:1"), WorkerInfo("w1", "http://127.0.0.1:2")])
    fleet.workers["w0"].health = "ready"
    fleet.workers["w0"].in_flight = 3
    return Sources(Accounting(), fleet, Breakers(fleet, HealthChecks()), RoutingAccount())


async def scrape(source: Sources) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, content_type = await Exposition(lambda: take(source)).render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_requests_by_end_and_by_status() -> None:
    source = sources()
    series = source.accounting.of("w0", "small")
    series.ends["ok"] += 2
    series.ends["worker_gone"] += 1
    series.statuses[200] += 3
    series.output_tokens += 40
    source.accounting.refusals["queue_full"] += 5
    samples = await scrape(source)
    of = (("model", "small"), ("worker", "w0"))
    assert samples["sluice_requests_total", (("end", "ok"), *of)] == 2
    assert samples["sluice_requests_total", (("end", "worker_gone"), *of)] == 1
    assert samples["sluice_responses_total", (of[0], ("status", "200"), of[1])] == 3
    assert samples["sluice_output_tokens_total", of] == 40
    assert samples["sluice_refused_requests_total", (("code", "queue_full"),)] == 5


async def test_histograms_are_cumulative() -> None:
    source = sources()
    ttft = source.accounting.of("w0", "small").ttft
    for value in (0.003, 0.03, 0.03, 1000.0):
        ttft.observe(value)
    samples = await scrape(source)

    def bucket(le: str) -> float:
        return samples[
            "sluice_time_to_first_token_seconds_bucket", (("le", le), ("model", "small"), ("worker", "w0"))
        ]

    assert [bucket(le) for le in ("0.001", "0.005", "0.05", "80.0", "+Inf")] == [0, 1, 3, 3, 4]
    assert samples["sluice_time_to_first_token_seconds_count", (("model", "small"), ("worker", "w0"))] == 4
    assert (
        samples["sluice_time_to_first_token_seconds_sum", (("model", "small"), ("worker", "w0"))] == 1000.063
    )


async def test_workers_are_states_and_loads() -> None:
    source = sources()
    assert source.breakers is not None
    source.breakers.of(source.fleet.workers["w1"]).failed(0.0, 0, refused=True)
    samples = await scrape(source)
    assert samples["sluice_worker_in_flight_requests", (("worker", "w0"),)] == 3
    assert samples["sluice_worker_health", (("state", "ready"), ("worker", "w0"))] == 1
    assert samples["sluice_worker_health", (("state", "unknown"), ("worker", "w0"))] == 0
    assert samples["sluice_worker_breaker", (("state", "open"), ("worker", "w1"))] == 1
    assert samples["sluice_worker_breaker", (("state", "closed"), ("worker", "w1"))] == 0
    assert samples["sluice_worker_breaker_opened_total", (("worker", "w1"),)] == 1


async def test_routing_numbers() -> None:
    source = sources()
    assert source.routing is not None
    account = source.routing.of("ttft")
    account.predicted(0.5, 0.25)
    account.ended, account.prompt_tokens, account.cached_tokens = 1, 100, 60
    samples = await scrape(source)
    assert samples["sluice_routing_absolute_error_seconds_total", (("policy", "ttft"),)] == 0.25
    assert samples["sluice_routed_cached_prompt_tokens_total", (("policy", "ttft"),)] == 60


async def test_mirrors_and_kv_events() -> None:
    source = sources()
    router = Router(source.fleet)
    source.states = router.states
    report = SourceReport("w0", "tcp://h:1", "degraded", "", 7, 2, 1, 0, 16, 900, 30, 4, 3, 2)
    source.kv_reports = lambda: [report, replace(report, worker="gone")]
    samples = await scrape(source)
    assert samples["sluice_cache_mirror_entries", (("worker", "w1"),)] == 0
    assert samples["sluice_kv_event_streams", (("state", "degraded"), ("worker", "w0"))] == 1
    assert samples["sluice_kv_event_streams", (("state", "live"), ("worker", "w0"))] == 0
    assert samples["sluice_kv_event_blocks", (("worker", "w0"),)] == 900
    assert samples["sluice_kv_event_lost_batches_total", (("worker", "w0"),)] == 1
    assert samples["sluice_kv_event_joins_total", (("result", "ambiguous"), ("worker", "w0"))] == 3
    assert ("sluice_kv_event_blocks", (("worker", "w1"),)) not in samples
    assert ("sluice_kv_event_blocks", (("worker", "gone"),)) not in samples


async def test_the_process_itself() -> None:
    samples = await scrape(sources())
    assert samples["process_resident_memory_bytes", ()] > 1e6
    assert samples["process_open_fds", ()] > 2
    assert samples["sluice_processes", ()] == 1


async def test_openmetrics_where_asked_for() -> None:
    text, content_type = await Exposition(lambda: take(sources())).render(
        "application/openmetrics-text; version=1.0.0"
    )
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(text.decode())}
    assert {"sluice_requests", "sluice_queue_wait_seconds"} <= names


def test_every_metric_is_documented_as_it_is() -> None:
    exported: dict[str, tuple[str, tuple[str, ...]]] = {
        family.name + ("_total" if family.kind == "counter" else ""): (family.kind, family.labels)
        for family in FAMILIES
    }
    exported |= {histogram.name: ("histogram", histogram.labels) for histogram in HISTOGRAMS}
    assert documented(DOCUMENT.read_text().replace(of_workers(), "")) == exported


def test_so_is_every_metric_of_the_kv_layer() -> None:
    exported = {
        f"{PREFIX}{name}" + ("_total" if family.kind == "counter" else ""): (family.kind, family.labels)
        for name, family in KV_FAMILIES.items()
    }
    assert documented(of_workers()) == exported


def of_workers() -> str:
    """The section of the document about what workers export."""
    _, heading, rest = DOCUMENT.read_text().partition("## The KV layer, at the worker\n")
    return heading + rest.partition("\n## ")[0]


def documented(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kind and labels of the metrics in the tables of `text`."""
    row = re.compile(r"^\| `(sluice_\w+)` \| (\w+) \| (.*?)\|", re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in row.findall(text)}
