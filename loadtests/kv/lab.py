"""Functions that a process of its own runs for a test: an engine to ask, and ways to do it harm.

vLLM changes the process that it is imported into (threads, environment, logging), so a test keeps it out of
its own: `concurrent.futures.ProcessPoolExecutor(1, spawn)` runs these one after the other in one child, which
keeps the engine between calls.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.kv import equality
from loadtests.kv.engine import Answer, Engine, engine


class _Lab:
    """What the child keeps between calls."""

    def __init__(self) -> None:
        self.running = contextlib.ExitStack()
        self.engine: Engine | None = None
        self.events: list[tuple[str, str, int]] = []
        self.heal: Callable[[], Any] | None = None


_lab = _Lab()


def make_model(out: Path, parameters: float) -> str:
    """A random-weight Llama with the shipped tokenizer; returns its directory."""
    from engine_adapter.demo.random_llama import write_random_llama
    from engine_adapter.launch.model import SHIPPED_MODEL

    write_random_llama(out, parameters=parameters, seed=7, tokenizer_from=SHIPPED_MODEL)
    return str(out)


def start(model: str, kv: Mapping[str, Any] | None = None, **options: Any) -> None:
    """Start an engine in place of the one that runs."""
    stop()
    _lab.engine = _lab.running.enter_context(engine(model, kv=kv, **options))


def stop() -> None:
    """End the engine, as a worker that is told to."""
    _lab.engine = None
    _lab.running.close()


def ask(tokens: Sequence[int], answer_tokens: int = 4, **more: Any) -> Answer:
    """One request alone."""
    return _engine().ask(tokens, answer_tokens, **more)[0]


def ask_all(prompts: Mapping[str, Sequence[int]], answer_tokens: int = 4) -> dict[str, Answer]:
    """All of these at once."""
    return _engine().run(prompts, answer_tokens)


def forget() -> bool:
    """Empty the engine's own prefix cache."""
    return _engine().reset_prefix_cache()


def reference(work: equality.Workload) -> dict[str, tuple[int, ...]]:
    """`equality.reference` of the lab's engine."""
    return equality.reference(_engine(), work)


def stress(work: equality.Workload, expected: dict[str, tuple[int, ...]], **more: Any) -> equality.Outcome:
    """`equality.stress` of the lab's engine."""
    return equality.stress(_engine(), work, expected, **more)


def leftovers() -> Sequence[str]:
    """`equality.leftovers` of the lab's engine."""
    return equality.leftovers(_engine())


def written_through(tier: str) -> int:
    """Wait until nothing is queued for a tier; returns the chunks that were written to it."""
    import time

    store = _engine().store
    deadline = time.monotonic() + 60
    while store.stats().tiers[tier].queued and time.monotonic() < deadline:
        time.sleep(0.01)
    return int(store.stats().tiers[tier].counters.saves)


def harm(tier: str, share: float, seed: int) -> None:
    """A tier goes wrong from now on, `share` of the time."""
    _lab.heal = equality.harm(_engine(), tier, share, seed)


def hang(tier: str) -> None:
    """Every operation of a tier hangs from now on, until `heal`."""
    _lab.heal = equality.hang(_engine(), tier)


def await_available(tier: str, wanted: bool, patience: float = 60.0) -> bool:
    """Wait until the store takes a tier for working, or for broken; whether that came."""
    import time

    deadline = time.monotonic() + patience
    while _engine().store.health()[tier] is not wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(_engine().store.health()[tier] is wanted)


def loads(tier: str) -> int:
    """Chunks that have come from a tier so far, for requests or to try it out."""
    return int(_engine().store.stats().tiers[tier].counters.loads)


def await_loads(tier: str, more_than: int, patience: float = 60.0) -> bool:
    """Wait until more chunks than that have come from a tier; whether they did."""
    import time

    deadline = time.monotonic() + patience
    while loads(tier) <= more_than and time.monotonic() < deadline:
        time.sleep(0.01)
    return loads(tier) > more_than


def heal() -> dict[str, int]:
    """The tier works again; how often it went wrong, by kind."""
    heal, _lab.heal = _lab.heal, None
    return {str(kind): count for kind, count in heal().items()} if heal is not None else {}


def faults(tier: str) -> int:
    """Faults of a tier that the store noticed, of all kinds."""
    return sum(_engine().store.stats().tiers[tier].counters.faults.values())


def damage_arena() -> int:
    """Flip a bit in every slot of the arena that holds a chunk; returns how many."""
    store = _engine().store
    slots = [entry.slot for entry in store._ledger.entries.values() if entry.slot is not None]
    for slot in slots:
        store.arena.memory(slot)[slot.nbytes // 2] ^= 1
    return len(slots)


def fail_next_load() -> None:
    """The fourth chunk that the worker copies into engine pages from now goes wrong."""
    worker = _worker()
    copy_in = worker._copy_in
    copied_before = itertools.count()

    def failing(segment: Any, loads: Sequence[Any]) -> None:
        copy_in(segment, loads)
        for transfer in loads:
            if next(copied_before) == 3:
                worker._copy_in = copy_in
                block = transfer.blocks[0]
                for layer in worker._pages.layers:
                    layer[block] = 255
                worker._failed.add(block)

    worker._copy_in = failing


def totals() -> dict[str, float]:
    """The KV layer's metrics as they would go to /metrics, by name and labels."""
    from engine_adapter.vllm.stats import samples

    connector = _engine().connector
    return {
        "/".join([name, *labels]): value
        for name, labels, value in samples(connector._totals, connector._scheduler.store.stats())
    }


def watch_events() -> None:
    """From now on remember the KV events of the KV layer."""
    connector = _engine().connector
    take = connector.take_events

    def taking() -> list[Any]:
        taken = list(take())
        _lab.events += [(type(e).__name__, e.medium, len(e.block_hashes)) for e in taken]
        return taken

    connector.take_events = taking


def events() -> list[tuple[str, str, int]]:
    """Kind, medium and number of blocks of each event since `watch_events`."""
    return list(_lab.events)


def _engine() -> Engine:
    if _lab.engine is None:
        raise RuntimeError("start an engine first")
    return _lab.engine


def _worker() -> Any:
    from vllm.distributed.kv_transfer import get_kv_transfer_group

    return get_kv_transfer_group()._worker
