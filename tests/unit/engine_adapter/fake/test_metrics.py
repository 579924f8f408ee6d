from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine_adapter.fake import FakeEngine, PrefixCacheConfig, Timing

StartEngine = Callable[..., Awaitable[FakeEngine]]
Labels = tuple[tuple[str, str], ...]


async def samples(client: httpx.AsyncClient) -> dict[str, float]:
    """Samples by name, with the labels beyond model and engine in braces."""
    text = (await client.get("/metrics")).text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            extra = [
                f"{k}={v}" for k, v in sorted(sample.labels.items()) if k not in ("model_name", "engine")
            ]
            found[sample.name + (f"{{{','.join(extra)}}}" if extra else "")] = sample.value
    return found


async def test_figures_agree_with_usage(client: httpx.AsyncClient) -> None:
    usages = []
    for _ in range(2):
        body = {"prompt": "the fox " * 100, "max_tokens": 10}
        usages.append((await client.post("/v1/completions", json=body)).json()["usage"])
    got = await samples(client)
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert cached > 0
    assert got["vllm:prompt_tokens_total"] == got["vllm:prefix_cache_queries_total"] == prompt
    assert got["vllm:prefix_cache_hits_total"] == got["vllm:prompt_tokens_cached_total"] == cached
    assert got["vllm:prompt_tokens_by_source_total{source=local_compute}"] == prompt - cached
    assert got["vllm:prompt_tokens_by_source_total{source=local_cache_hit}"] == cached
    assert got["vllm:generation_tokens_total"] == 20
    assert got["vllm:request_success_total{finished_reason=length}"] == 2
    assert got["vllm:time_to_first_token_seconds_count"] == 2
    assert got["vllm:inter_token_latency_seconds_count"] == 18
    assert got["vllm:e2e_request_latency_seconds_bucket{le=+Inf}"] == 2
    assert got["vllm:kv_cache_usage_perc"] == 0
    assert got["vllm:num_requests_running"] == got["vllm:num_requests_waiting"] == 0


async def test_gauges_show_who_runs_and_who_waits(
    start_engine: StartEngine, chat_body: dict[str, Any]
) -> None:
    engine = await start_engine(
        timing=Timing(itl_base_s=60),
        max_num_seqs=1,
        prefix_cache=PrefixCacheConfig(num_blocks=10, block_size=32),
    )
    body = chat_body | {"stream": True}
    async with (
        httpx.AsyncClient(base_url=engine.url, verify=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body),
        client.stream("POST", "/v1/chat/completions", json=body),
    ):
        await engine.stats.until(lambda stats: stats.waiting == 1)
        got = await samples(client)
        load = (await client.get("/load")).json()
    assert (got["vllm:num_requests_running"], got["vllm:num_requests_waiting"]) == (1, 1)
    assert got["vllm:num_requests_waiting_by_reason{reason=capacity}"] == 1
    assert got["vllm:kv_cache_usage_perc"] == pytest.approx(0.1)
    assert load == {"server_load": 2}


async def test_metrics_without_a_cache(start_engine: StartEngine) -> None:
    engine = await start_engine(prefix_cache=None)
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        await client.post("/v1/completions", json={"prompt": "the fox " * 100})
        got = await samples(client)
    assert got["vllm:prefix_cache_queries_total"] == 0
    assert got["vllm:prompt_tokens_total"] == 200
