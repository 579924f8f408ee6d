"""A real engine over a KV layer whose tiers all go wrong, for minutes: right answers, and nothing that grows.

One round answers every prompt of the workload once, many at a time, under three tenants, with aborts,
preemptions and forgotten prefix caches (`equality.stress`). Rounds of trouble and of calm take turns. An
operator pins, moves, re-encodes and clears meanwhile; bits of idle memory flip; copies into pages fail.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cache.control import Clear, Command, Compress, Lookup, Move, Pin, Prefetch, Selection
from cache.keys import EXACT
from cache.operator import Operator
from cache.tiers.faulty import Mischief
from loadtests.kv import equality
from loadtests.kv.engine import Engine, engine
from loadtests.kv.growth import by_room, holdings
from loadtests.kv.trouble import TOLD_AS, Trouble

SALTS = (None, "sluice1:4:acme:exact", "sluice1:5:other:exact")
TENANTS = ("", "acme", "other")
TROUBLE_SHARE = 0.08
"""Of all operations of every tier."""
TROUBLED_ROUNDS = 2
"""In a row, then one of calm."""
COMMAND_SECONDS = 0.3
"""Between two of the operator's commands."""
HANG_ENDS = 0.2
"""Chance, after each of an operator's commands, that what hangs goes on."""
PIN_SECONDS = 2.0
ENGINE_GROWS_MIB = 0.33
"""Private memory that an engine without the KV layer takes more of with each answer of such a workload, in
its first 300."""
PATIENCE = 120.0
"""Seconds for transfers to end after the last round."""


@dataclass(frozen=True)
class Sample:
    """What the process holds at one moment, between two rounds."""

    seconds: float
    answers: int
    resident_mib: float
    """Private memory: without what it shares, such as the arena."""
    descriptors: int
    threads: int
    known_chunks: int
    python_blocks: int
    malloc_mib: float
    malloc_idle_mib: float
    """See `loadtests.kv.growth`."""

    @classmethod
    def take(cls, began: float, answers: int, running: Engine) -> Sample:
        """Memory is what is in use: the allocator gives back first what it keeps for reuse, of which every
        thread's part grows for minutes."""
        now = holdings()
        status = Path("/proc/self/status").read_text()
        threads = next(line for line in status.splitlines() if line.startswith("Threads"))
        return cls(
            time.monotonic() - began,
            answers,
            now.private_mib,
            len(os.listdir("/proc/self/fd")),
            int(threads.split()[1]),
            len(running.store._ledger.entries),
            now.python_blocks,
            now.malloc_mib,
            now.malloc_idle_mib,
        )


@dataclass
class Report:
    """How a soak went."""

    outcome: equality.Outcome = field(default_factory=equality.Outcome)
    rounds: int = 0
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    """One after each round of calm."""
    mischief: dict[str, dict[str, int]] = field(default_factory=dict)
    """By tier: what was done to it."""
    faults: dict[str, dict[str, int]] = field(default_factory=dict)
    """By tier: what the store noticed, with operations `refused` by an open circuit and `dropped` saves."""
    saves: dict[str, int] = field(default_factory=dict)
    loads: dict[str, int] = field(default_factory=dict)
    evictions: dict[str, int] = field(default_factory=dict)
    commands: dict[str, int] = field(default_factory=dict)
    flipped_slots: int = 0
    damaged_slots: int = 0
    failed_loads: int = 0
    failed_blocks: int = 0
    left: list[str] = field(default_factory=list)
    grown: dict[str, int] = field(default_factory=dict)
    """With `trace`: bytes by which Python objects of each room or package grew in the second half."""

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        outcome = vars(self.outcome) | {"sources": dict(self.outcome.sources)}
        samples = [asdict(sample) for sample in self.samples]
        return vars(self) | {"outcome": outcome, "samples": samples, "problems": self.problems()}

    def problems(self) -> list[str]:
        """What is not as it must be."""
        found = [f"{len(self.outcome.differing)} answers differ"] if self.outcome.differing else []
        found += [f"left over: {one}" for one in self.left]
        found += [f"{name}: {told}" for name, told in self._untold()]
        if len(self.samples) >= 4:
            half = self.samples[len(self.samples) // 2]
            last = self.samples[-1]
            allowed = ENGINE_GROWS_MIB * (last.answers - half.answers)
            if last.resident_mib > half.resident_mib + allowed + 8:
                found.append(f"memory grew from {half.resident_mib:.0f} to {last.resident_mib:.0f} MiB")
            for what in ("descriptors", "threads"):
                before, after = getattr(half, what), getattr(last, what)
                if after > before:
                    found.append(f"{what} grew from {before} to {after}")
        return found

    def _untold(self) -> list[tuple[str, str]]:
        """Kinds of mischief that struck often and that no counter tells of."""
        return [
            (tier, f"{count} times {mischief}, and no fault {told!s}")
            for tier, done in self.mischief.items()
            for mischief, told in TOLD_AS.items()
            if (count := done.get(mischief, 0)) >= 10
            and not self.faults[tier].get(told)
            # A torn frame is noticed by who reads it, a full tier only where nothing can be evicted.
            and not (mischief is Mischief.TORN_WRITE and self.loads[tier] < 20 * count)
            and not (mischief is Mischief.FULL and self.evictions[tier])
        ]


def soak(
    model: str,
    kv: Mapping[str, Any],
    work: equality.Workload,
    expected: dict[str, tuple[int, ...]],
    *,
    seconds: float,
    seed: int,
    at_once: int,
    trace: bool = False,
    **options: Any,
) -> Report:
    """Rounds until `seconds` are over, then calm, and a look at what is left. `trace`: Python's allocations
    too, which makes everything slower."""
    source = random.Random(seed)
    report = Report()
    # It logs every exception of a tier, and here they are counted.
    logging.getLogger("cache.link").setLevel(logging.CRITICAL)
    with engine(model, kv=kv, **options) as running:
        trouble = Trouble(running.store, seed)
        operator = _Operations(running, work, seed)
        began = time.monotonic()
        last = False
        halfway: Counter[str] = Counter()
        if trace:
            tracemalloc.start(1)
        while not last:
            last = time.monotonic() - began >= seconds
            calm = last or report.rounds % (TROUBLED_ROUNDS + 1) == TROUBLED_ROUNDS
            if calm:
                trouble.end()
            else:
                trouble.begin(TROUBLE_SHARE)
                report.failed_loads += _fail_a_load(running, source.randrange(40))
            operator.run(calm, trouble)
            outcome = equality.stress(
                running,
                work,
                expected,
                rounds=1,
                at_once=at_once,
                seed=seed + report.rounds,
                salts=SALTS,
                reset_share=0.05,
            )
            operator.stop()
            report.outcome.include(outcome)
            report.rounds += 1
            report.flipped_slots += _flip_bits(running, source)
            if calm:
                report.samples.append(Sample.take(began, report.outcome.compared, running))
                print(_line(report), flush=True)
                if trace and not halfway and time.monotonic() - began >= seconds / 2:
                    halfway = by_room()
        if trace:
            report.grown = dict(by_room() - halfway)
            tracemalloc.stop()
        report.seconds = time.monotonic() - began
        report.commands = dict(operator.done)
        trouble.end()
        report.left = _left(running, trouble)
        _note(report, running, trouble)
    return report


class _Operations:
    """An operator at work on a thread of its own while a round runs."""

    def __init__(self, running: Engine, work: equality.Workload, seed: int) -> None:
        scheduler = running.connector._scheduler
        self._operator = Operator(running.store, scheduler._namespaces)
        self._prompts = list(work.prompts.values())
        self._tiers = list(running.store._links)
        self._source = random.Random(seed + 1)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.done: Counter[str] = Counter()

    def run(self, calm: bool, trouble: Trouble) -> None:
        self._ended.clear()
        self._thread = threading.Thread(target=self._work, args=(calm, trouble))
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self, calm: bool, trouble: Trouble) -> None:
        if calm and self._source.random() < 0.5:
            self._do(Clear(Selection(everything=True, tenant=self._source.choice(TENANTS[1:]))))
        while not self._ended.wait(COMMAND_SECONDS):
            self._do(self._command())
            if self._source.random() < HANG_ENDS:
                trouble.release()

    def _command(self) -> Command:
        source = self._source
        prompt = source.choice(self._prompts)
        select = Selection(tokens=prompt, tenant=source.choice(TENANTS), quality=EXACT)
        tier, other = source.sample(["memory", *self._tiers], 2)
        commands: list[Command] = [
            Lookup(select),
            Pin(select, "soak", PIN_SECONDS),
            Prefetch(select, seconds=1.0),
            Move(select, tier, other, keep=source.random() < 0.5, seconds=1.0),
            Compress(select, source.choice(self._tiers), "lossless", seconds=1.0),
            Clear(select),
        ]
        return source.choice(commands)

    def _do(self, command: Command) -> None:
        self._operator.carry_out(command)
        self.done[type(command).__name__.lower()] += 1


def _flip_bits(running: Engine, source: random.Random) -> int:
    """Flip a bit in a few readable slots of the idle arena."""
    ledger = running.store._ledger
    with ledger.lock:
        slots = [entry.slot for entry in ledger.entries.values() if entry.slot is not None]
        chosen = source.sample(slots, min(3, len(slots)))
        for slot in chosen:
            running.store.arena.memory(slot)[source.randrange(slot.nbytes)] ^= 1 << source.randrange(8)
    return len(chosen)


def _fail_a_load(running: Engine, after: int) -> int:
    """The worker's copy into engine pages fails once, after `after` that go well."""
    from vllm.distributed.kv_transfer import get_kv_transfer_group

    worker = get_kv_transfer_group()._worker
    if "_copy_in" in vars(worker):  # the last one has not happened yet
        return 0
    copy_in, left = worker._copy_in, after

    def failing(segment: Any, loads: Sequence[Any]) -> None:
        nonlocal left
        copy_in(segment, loads)
        if left < len(loads):
            del worker._copy_in
            block = loads[left].blocks[0]
            for layer in worker._pages.layers:
                layer[block] = 255
            worker._failed.add(block)
        left -= len(loads)

    worker._copy_in = failing
    return 1


def _left(running: Engine, trouble: Trouble) -> list[str]:
    """What an idle engine still holds once its transfers have ended and its pins are over."""
    deadline = time.monotonic() + PATIENCE
    while True:
        trouble.end()
        stats = running.store.stats()
        held = {
            "leases": stats.leases,
            "reservations": stats.reservations,
            "held chunks": stats.held_chunks,
            "pinned chunks": stats.pinned_chunks,
            "chunks waiting to be written": sum(tier.queued for tier in stats.tiers.values()),
            "transfers that hang": sum(
                lane.began is not None
                for link in running.store._links.values()
                for lane in (link.reads, link.writes)
            ),
            "slots that belong to nobody": _lost_slots(running),
        }
        left = [f"{count} {what}" for what, count in held.items() if count]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _lost_slots(running: Engine) -> int:
    """Slots in use that no chunk has."""
    ledger = running.store._ledger
    with ledger.lock:
        owned = sum((e.slot is not None) + (e.landing is not None) for e in ledger.entries.values())
        return int(ledger.arena.used // ledger.arena.slot_bytes - owned)


def _note(report: Report, running: Engine, trouble: Trouble) -> None:
    stats = running.store.stats()
    for name, done in trouble.done.items():
        counters = stats.tiers[name].counters
        report.mischief[name] = {str(kind): count for kind, count in done.items()}
        report.faults[name] = {str(kind): count for kind, count in counters.faults.items()} | {
            "refused": counters.refused,
            "dropped": counters.dropped,
        }
    for name, tier in stats.tiers.items():
        report.saves[name] = tier.counters.saves
        report.loads[name] = tier.counters.loads
        report.evictions[name] = tier.counters.evictions
    report.damaged_slots = running.connector._totals.damaged_slots
    report.failed_blocks = running.connector._totals.failed_blocks


def _line(report: Report) -> str:
    now, outcome = report.samples[-1], report.outcome
    return (
        f"  {now.seconds:5.0f} s, round {report.rounds}: {outcome.compared} answers, "
        f"{len(outcome.differing)} differ, {outcome.aborted} aborted, {outcome.preemptions} preempted; "
        f"{now.resident_mib:.0f} MiB, {now.descriptors} descriptors, {now.threads} threads, "
        f"{now.known_chunks} chunks known"
    )
