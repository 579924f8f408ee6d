"""Prometheus and Grafana: targets are services, queries use metrics that exist, paths are mounted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.metrics import render
from engine_adapter.fake.stats import Stats
from engine_adapter.vllm.stats import FAMILIES as KV_FAMILIES
from engine_adapter.vllm.stats import PREFIX
from gateway.telemetry.families import FAMILIES, HISTOGRAMS

Document = dict[str, Any]

METRIC = re.compile(r"\b(?:sluice_|vllm:|process_)\w+")
PROCESS_METRICS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
OF_THE_SCRAPE = {"job", "instance", "worker"}
"""Labels that Prometheus adds to everything; `worker` by the relabelling of its configuration."""


@pytest.fixture(scope="module")
def known_metrics(repository: Path) -> dict[str, set[str]]:
    """Names as Prometheus stores them, and their labels. `tests/e2e` compares them with what is exported."""
    known: dict[str, set[str]] = {}
    for family in FAMILIES:
        known[family.name + ("_total" if family.kind == "counter" else "")] = set(family.labels)
    for histogram in HISTOGRAMS:
        for part in ("bucket", "sum", "count"):
            known[f"{histogram.name}_{part}"] = {*histogram.labels, *(("le",) if part == "bucket" else ())}
    for name, kv_family in KV_FAMILIES.items():
        known[PREFIX + name + ("_total" if kv_family.kind == "counter" else "")] = set(kv_family.labels)
    for line in render(FakeEngineConfig(), Stats(), None).decode().splitlines():
        if match := re.match(r"(vllm:\w+)(?:\{([^}]*)\})? ", line):
            known[match[1]] = set(re.findall(r"(\w+)=", match[2] or ""))
    documented = (repository / "docs" / "metrics.md").read_text()
    return known | {name: set() for name in PROCESS_METRICS if f"`{name}`" in documented}


def queries(dashboard: Document) -> list[tuple[str, str]]:
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def test_queries_use_metrics_that_exist(dashboard: Document, known_metrics: dict[str, set[str]]) -> None:
    for title, query in queries(dashboard):
        names = set(METRIC.findall(query))
        assert names, f"{title}: {query} uses no metric"
        assert names <= known_metrics.keys(), f"{title}: {names - known_metrics.keys()}"


def test_queries_use_labels_that_exist(dashboard: Document, known_metrics: dict[str, set[str]]) -> None:
    seen = 0
    for title, query in queries(dashboard):
        for name, selector in re.findall(r"([\w:]+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)=|(\w+)!", selector.replace("=~", "=")))
            labels = {label for pair in used for label in pair if label}
            assert labels <= known_metrics[name] | OF_THE_SCRAPE, f"{title}: {name} has no {labels}"
            seen += len(labels)
        for by, name in re.findall(r"by \(([\w, ]+)\) \((?:rate\()?([\w:]+)", query):
            if name in known_metrics:
                labels = set(by.replace(" ", "").split(","))
                assert labels <= known_metrics[name] | OF_THE_SCRAPE, f"{title}: {name} has no {labels}"
                seen += len(labels)
    assert seen > 50


def test_the_dashboard_answers_the_questions_of_an_operator(dashboard: Document) -> None:
    used = {name for _, query in queries(dashboard) for name in METRIC.findall(query)}
    assert used >= {
        "sluice_time_to_first_token_seconds_bucket",
        "sluice_inter_token_latency_seconds_bucket",
        "sluice_requests_total",
        "sluice_refused_requests_total",
        "sluice_worker_health",
        "sluice_worker_breaker",
        "sluice_queued_requests",
        "sluice_cached_prompt_tokens_total",
        "sluice_output_tokens_total",
        "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_hits_total",
        "sluice_kv_prompt_tokens_total",
        "sluice_kv_tier_faults_total",
    }


def test_rates_of_counters_only(dashboard: Document) -> None:
    for title, query in queries(dashboard):
        for name in re.findall(r"rate\(([\w:]+)", query):
            assert name.endswith(("_total", "_bucket")), f"{title}: rate of {name}"
        outside = re.sub(r"rate\([^)]*\)", "", query)
        assert not re.search(r"_(total|bucket)\b", outside), f"{title}: {query} shows a bare counter"


def test_panels_are_told_apart_and_do_not_overlap(dashboard: Document) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        rows, columns = range(grid["y"], grid["y"] + grid["h"]), range(grid["x"], grid["x"] + grid["w"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_variables_in_queries_are_defined(dashboard: Document) -> None:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = {name for _, query in queries(dashboard) for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval"} == defined


def test_the_dashboard_asks_the_provisioned_data_source(
    dashboard: Document, repository: Path, prometheus: Document, services: Document
) -> None:
    file = repository / "deploy/grafana/provisioning/datasources/prometheus.yaml"
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": source["type"], "uid": source["uid"]}
    host, port = re.fullmatch(r"http://([\w-]+):(\d+)", source["url"]).groups()  # type: ignore[union-attr]
    assert services[host]["ports"][0].endswith(f":{port}")
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


def test_grafana_finds_the_dashboard_where_it_is_mounted(repository: Path, services: Document) -> None:
    file = repository / "deploy/grafana/provisioning/dashboards/sluice.yaml"
    (provider,) = yaml.safe_load(file.read_text())["providers"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in services["grafana"]["volumes"])
    folder = mounts[provider["options"]["path"]]
    assert (repository / folder / "sluice.json").is_file()
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/sluice.json"
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"


def test_grafana_shows_and_changes_nothing(services: Document) -> None:
    environment = services["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_ANALYTICS_REPORTING_ENABLED"] == "false"


def test_prometheus_scrapes_the_gateway_and_all_workers(prometheus: Document, services: Document) -> None:
    jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    assert jobs["sluice"]["static_configs"][0]["targets"] == ["gateway:8080"]
    assert services["gateway"]["environment"]["SLUICE_LISTEN__PORT"] == "8080"
    (names,) = jobs["vllm"]["dns_sd_configs"]
    assert set(names["names"]) == {name for name in services if name.startswith("worker")}
    for name in names["names"]:
        assert str(names["port"]) in services[name]["expose"]
        assert set(services[name]["networks"]) & set(services["prometheus"]["networks"]), name


def test_both_sides_of_a_worker_have_the_same_label(prometheus: Document) -> None:
    (job,) = [job for job in prometheus["scrape_configs"] if job["job_name"] == "vllm"]
    assert {"source_labels": ["__meta_dns_name"], "target_label": "worker"} in job["relabel_configs"]
