"""Every sample has a family with the labels it comes with."""

from __future__ import annotations

from dataclasses import replace

from cache.tiers.tier import Fault
from engine_adapter.vllm.plan import StepReport
from engine_adapter.vllm.stats import FAMILIES, Totals, samples
from tests.unit.engine_adapter.vllm.engines import Harness, request


def test_samples_fit_their_families() -> None:
    harness = Harness()
    asked = request("a", list(range(9)))
    harness.prefill(asked)
    harness.finish(asked)
    stats = harness.store.stats()
    memory = stats.tiers["memory"]
    memory.counters.fault(Fault.CORRUPT)
    stats = replace(stats, tiers={"memory": replace(memory, tenants={"acme": 5}, streamed={"small": 2})})
    found = list(samples(harness.scheduler.totals, stats))
    assert all(len(labels) == len(FAMILIES[name].labels) for name, labels, _ in found)
    assert {name for name, _, _ in found} == FAMILIES.keys()
    assert ("layer_up", (), 1.0) in found
    assert ("prompt_tokens", ("computed",), 9) in found
    assert ("tier_tenant_bytes", ("memory", "acme"), 5) in found
    assert ("streamed_chunks", ("memory", "small"), 2) in found
    harness.close()


def test_an_engine_without_store_says_so() -> None:
    assert ("layer_up", (), 0.0) in list(samples(Totals(), None))


def test_reports_of_several_steps_become_one() -> None:
    one = StepReport([1], {1: [0, 2]}, 0.5, 0.1, 0.2, 10, 20, 1)
    other = StepReport([1, 2], {1: [1], 2: [0]}, 0.25, 0.1, 0.2, 1, 2, 0)
    both = one.merged(other)
    assert both.steps == [1, 2]
    assert both.unsaved == {1: [0, 1, 2], 2: [0]}
    assert (both.loaded_bytes, both.saved_bytes, both.failed_blocks) == (11, 22, 1)
