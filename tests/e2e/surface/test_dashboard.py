"""Every metric that the dashboard asks for is exported by a gateway and a worker that run."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import ROOT, Sluice

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "sluice.json"
KV_LAYER = re.compile(r"sluice_kv_(?!event_)")
"""Begins the names that workers with a KV layer export; those of KV events are the gateway's."""


def wanted() -> set[str]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return {name for query in queries for name in re.findall(r"\b(?:sluice_|vllm:|process_)\w+", query)}


def exported(url: str) -> set[str]:
    """Names of the series that a scrape may bring, those without a sample yet included."""
    names: set[str] = set()
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=60).text):
        match family.type:
            case "counter":
                names.add(f"{family.name}_total")
            case "histogram":
                names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
            case _:
                names.add(family.name)
    return names


def test_what_the_dashboard_shows_is_exported(sluice: Sluice, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    assert sluice.post("/v1/chat/completions", body).status_code == 200
    (worker,) = sluice.worker_urls()
    names = wanted()
    if sluice.engine == "fake":
        names = {name for name in names if KV_LAYER.match(name) is None}
    assert len(names) > 30
    assert names - exported(sluice.url) - exported(worker) == set()
