"""Phases of a comparison, each for a process of its own: they start an engine, ask, and return seconds."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtests.kv.engine import Engine, engine, random_tokens

Times = dict[int, list[float]]
"""Seconds to the first token by prompt length."""


@dataclass(frozen=True)
class Prompts:
    """`each` prompts of every length; the same in every process."""

    lengths: tuple[int, ...]
    each: int

    def of(self, length: int) -> list[list[int]]:
        return [random_tokens(length, length * 1000 + number) for number in range(self.each)]


def offloading(memory_bytes: int, directory: str) -> dict[str, Any]:
    """vLLM's own tiers: memory, then files."""
    return {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {
            "spec_name": "HostTierSpec",
            "spec_module_path": "loadtests.kv.rivals",
            "cpu_bytes_to_use": memory_bytes,
            "secondary_tiers": [{"type": "fs", "root_dir": directory}],
        },
    }


def example(directory: str) -> dict[str, Any]:
    """vLLM's example of a connector."""
    return {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": directory},
    }


def cold_and_hits(
    model: str, kv: Mapping[str, Any] | None, prompts: Prompts, repeats: int, **options: Any
) -> dict[str, Times]:
    """`cold`: first time. `engine`: from the engine's own cache. `layer`: after that was emptied, from the KV
    layer's memory; the last two in turns, so that a busy moment strikes both."""
    found: dict[str, Times] = {"cold": {}, "engine": {}, "layer": {}}
    with engine(model, kv=kv, **options) as running:
        _warm_up(running)
        for length in prompts.lengths:
            asked = prompts.of(length)
            found["cold"][length] = [running.ask(tokens)[1] for tokens in asked]
            _settle(running)
            engine_times, layer_times = [], []
            for _ in range(repeats):
                for tokens in asked:
                    running.ask(tokens)
                    engine_times.append(running.ask(tokens)[1])
                    if kv is not None:
                        _must_forget(running)
                        layer_times.append(running.ask(tokens)[1])
            found["engine"][length], found["layer"][length] = engine_times, layer_times
        _settle(running)
    return found


def fresh(model: str, kv: Mapping[str, Any], prompts: Prompts, **options: Any) -> dict[str, Times]:
    """`layer`: the same prompts asked in a new process; `cached`: their tokens that were not computed;
    `engine`: each asked once more, from the engine's own cache, so that a busy moment strikes both."""
    found: dict[str, Times] = {"layer": {}, "cached": {}, "engine": {}}
    with engine(model, kv=kv, **options) as running:
        _warm_up(running)
        for length in prompts.lengths:
            asked = [(running.ask(tokens), running.ask(tokens)) for tokens in prompts.of(length)]
            found["layer"][length] = [seconds for (_, seconds), _ in asked]
            found["cached"][length] = [float(answer.cached_tokens) for (answer, _), _ in asked]
            found["engine"][length] = [seconds for _, (_, seconds) in asked]
    return found


def saving(model: str, kv: Mapping[str, Any], prompts: Prompts, **options: Any) -> dict[str, Times]:
    """`on` and `off`: prefill with and without the KV layer in turns, in one engine; `cpu on` and `cpu off`:
    the processor time of the whole process meanwhile, all threads."""
    found: dict[str, Times] = {"on": {}, "off": {}, "cpu on": {}, "cpu off": {}}
    with engine(model, kv=kv, **options) as running:
        _warm_up(running)
        connector = running.connector
        layer = connector._scheduler
        for length in prompts.lengths:
            for name in found:
                found[name][length] = []
            for number in range(prompts.each):
                for name in ("on", "off"):
                    connector._scheduler = layer if name == "on" else None
                    tokens = random_tokens(length, length * 7919 + number * 2 + (name == "on"))
                    gc.collect()
                    begun = time.process_time()
                    found[name][length].append(running.ask(tokens)[1])
                    found[f"cpu {name}"][length].append(time.process_time() - begun)
            connector._scheduler = layer
    return found


def isolation(model: str, kv: Mapping[str, Any], prompts: Prompts, **options: Any) -> dict[str, Times]:
    """`cold`: a prompt that nobody has asked. `stranger`: one that another tenant has. `own`: one's own
    again. All in turns, the first two in changing order, so that a busy moment strikes all."""
    found: dict[str, Times] = {name: {n: [] for n in prompts.lengths} for name in ("cold", "stranger", "own")}
    one, other = "sluice1:3:one:exact", "sluice1:5:other:exact"
    with engine(model, kv=kv, **options) as running:
        _warm_up(running)
        for length in prompts.lengths:
            for number, asked in enumerate(prompts.of(length)):
                running.ask(asked, cache_salt=one)
                unknown = random_tokens(length, length * 1000 + 500 + number)
                both = [("cold", unknown), ("stranger", asked)]
                for name, tokens in both if number % 2 else reversed(both):
                    answer, seconds = running.ask(tokens, cache_salt=other)
                    if answer.cached_tokens:
                        raise AssertionError(f"{name}: {answer.cached_tokens} tokens of another tenant's KV")
                    found[name][length].append(seconds)
                found["own"][length].append(running.ask(asked, cache_salt=one)[1])
    return found


def _warm_up(running: Engine) -> None:
    for number in range(3):
        running.ask(random_tokens(700, 90_000 + number))


def _must_forget(running: Engine) -> None:
    deadline = time.monotonic() + 60
    while not running.reset_prefix_cache():
        # Blocks may still be held by a rival's transfer; its steps let go of them.
        running.step()
        if time.monotonic() > deadline:
            raise TimeoutError("the engine's prefix cache could not be emptied within 60 s")


def _settle(running: Engine) -> None:
    """Let what is being written get to its tier."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if getattr(running.connector, "_scheduler", None) is None:
            time.sleep(1.0)
            return
        if not any(tier.queued for tier in running.store.stats().tiers.values()):
            time.sleep(0.2)
            return
        time.sleep(0.05)
