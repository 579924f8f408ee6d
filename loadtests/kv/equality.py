"""Are answers over the KV layer, token for token, those of the engine's own prefix cache?

A reference engine without KV layer answers every prompt twice, the second time from its own prefix cache, one
request at a time. Then an engine with KV layer answers the same prompts many times over, many at once, with a
cache so small that it evicts and preempts, an arena so small that it evicts too, requests that are aborted at
any moment, and its own prefix cache forgotten now and then, so that most prefixes come from the KV layer.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtests.kv.engine import Answer, Engine, random_tokens

if TYPE_CHECKING:
    from cache.tiers.faulty import Mischief


@dataclass(frozen=True)
class Workload:
    """Prompts by name. They share documents, continue each other as conversations do, or stand alone."""

    prompts: dict[str, list[int]]
    answer_tokens: int


@dataclass
class Outcome:
    """What a run under stress came to."""

    compared: int = 0
    differing: list[str] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    aborted: int = 0
    preemptions: int = 0
    resets: int = 0
    steps: int = 0
    longest_seconds: float = 0.0
    """That a request took, from its adding to its end."""

    def include(self, other: Outcome) -> None:
        """Add what another run came to."""
        self.compared += other.compared
        self.differing += other.differing
        self.sources.update(other.sources)
        self.aborted += other.aborted
        self.preemptions += other.preemptions
        self.resets += other.resets
        self.steps += other.steps
        self.longest_seconds = max(self.longest_seconds, other.longest_seconds)


def workload(count: int, seed: int, longest: int = 3000, answer_tokens: int = 16) -> Workload:
    """`count` prompts of 20 to `longest` tokens."""
    source = random.Random(seed)
    documents = [random_tokens(source.randrange(longest // 8, longest // 2), seed + n) for n in range(10)]
    prompts: dict[str, list[int]] = {}
    for number in range(count):
        kind = source.random()
        if kind < 0.55:
            tokens = source.choice(documents)
            tokens = tokens[: source.randrange(len(tokens) // 2, len(tokens) + 1)]
            tokens = tokens + random_tokens(source.randrange(1, 150), seed + 1000 + number)
        elif kind < 0.8 and prompts:
            tokens = source.choice(list(prompts.values()))
            tokens = tokens + random_tokens(source.randrange(20, 300), seed + 2000 + number)
        else:
            tokens = random_tokens(source.randrange(20, longest), seed + 3000 + number)
        prompts[f"p{number}"] = tokens[:longest]
    return Workload(prompts, answer_tokens)


def reference(engine: Engine, work: Workload) -> dict[str, tuple[int, ...]]:
    """Each prompt's answer when the engine has it in its own prefix cache."""
    answers = {}
    for name, tokens in work.prompts.items():
        engine.ask(tokens)
        answers[name] = engine.ask(tokens, work.answer_tokens)[0].tokens
    return answers


def stress(
    engine: Engine,
    work: Workload,
    expected: dict[str, tuple[int, ...]],
    *,
    rounds: int,
    at_once: int,
    seed: int,
    abort_share: float = 0.1,
    reset_share: float = 0.02,
    salts: Sequence[str | None] = (None,),
) -> Outcome:
    """Answer every prompt `rounds` times in random order, `at_once` at a time, each under one of the cache
    salts, and compare."""
    source = random.Random(seed)
    order = [name for _ in range(rounds) for name in source.sample(sorted(work.prompts), len(work.prompts))]
    outcome = Outcome()
    numbers = itertools.count()
    running: dict[str, str] = {}
    doomed: dict[str, int] = {}
    began: dict[str, float] = {}
    preempted: Counter[str] = Counter()
    while order or running:
        while order and len(running) < at_once:
            name = order.pop()
            request_id = f"{name}-{next(numbers)}"
            salt = source.choice(salts)
            engine.add(request_id, work.prompts[name], work.answer_tokens, cache_salt=salt)
            running[request_id] = name
            began[request_id] = time.perf_counter()
            if source.random() < abort_share:
                doomed[request_id] = outcome.steps + source.randrange(0, 12)
        for request_id in [r for r, step in doomed.items() if step <= outcome.steps and r in running]:
            engine.abort(request_id)
            del doomed[request_id]
            order.insert(0, running.pop(request_id))
            outcome.aborted += 1
        if source.random() < reset_share:
            outcome.resets += engine.reset_prefix_cache(running=source.random() < 0.5)
        for answer in engine.step():
            if (ended := _compare(answer, running, expected, outcome)) is not None:
                seconds = time.perf_counter() - began[ended]
                outcome.longest_seconds = max(outcome.longest_seconds, seconds)
        outcome.steps += 1
        for request_id, request in engine.scheduler.requests.items():
            preempted[request_id] = max(preempted[request_id], request.num_preemptions)
    outcome.preemptions = sum(preempted.values())
    return outcome


def _compare(
    answer: Answer, running: dict[str, str], expected: dict[str, tuple[int, ...]], outcome: Outcome
) -> str | None:
    """Note an answer; returns our name of its request, None if it was aborted."""
    request_id = next((known for known in running if _same_request(answer.id, known)), None)
    if request_id is None:
        return None
    name = running.pop(request_id)
    outcome.compared += 1
    outcome.sources.update(answer.sources)
    if answer.tokens != expected[name]:
        outcome.differing.append(request_id)
    return request_id


def _same_request(told: str, given: str) -> bool:
    """vLLM may add to a request's id."""
    return told == given or told.startswith(f"{given}-")


def harm(engine: Engine, tier: str, share: float, seed: int, hangs: int = 0) -> Callable[[], Counter[str]]:
    """From now on a tier does `share` of its work wrongly, in every way it can; returns how to heal it, which
    tells how often it did what. It hangs at most `hangs` times: each takes a thread until it is healed."""
    from cache.tiers.faulty import Mischief

    source, done = random.Random(seed), Counter[str]()

    def script(operation: str, key: bytes) -> Mischief | None:
        nonlocal hangs
        if source.random() >= share:
            return None
        mischief = source.choice(list(Mischief))
        if mischief is Mischief.HANGS:
            hangs -= 1
            if hangs < 0:
                return None
        done[mischief] += 1
        return mischief

    return _wrapped(engine, tier, script, done)


def hang(engine: Engine, tier: str) -> Callable[[], Counter[str]]:
    """From now on every operation of a tier hangs; returns how to heal it, as `harm` does."""
    from cache.tiers.faulty import Mischief

    done = Counter[str]()

    def script(operation: str, key: bytes) -> Mischief:
        done[operation] += 1
        return Mischief.HANGS

    return _wrapped(engine, tier, script, done)


def _wrapped(
    engine: Engine, tier: str, script: Callable[[str, bytes], Mischief | None], done: Counter[str]
) -> Callable[[], Counter[str]]:
    """Put a tier behind the fault wrapper; returns how to heal it."""
    from cache.tiers.faulty import FaultyTier

    link = engine.store._links[tier]
    healthy = link.tier
    link.tier = faulty = FaultyTier(healthy, script)

    def heal() -> Counter[str]:
        link.tier = healthy
        faulty.script = lambda operation, key: None
        faulty.resume()
        return done

    return heal


def leftovers(engine: Engine, patience: float = 60.0) -> Sequence[str]:
    """What an idle engine's KV layer still holds after its transfers had `patience` seconds to end."""
    deadline = time.monotonic() + patience
    while True:
        stats = engine.store.stats()
        held = {"leases": stats.leases, "reservations": stats.reservations, "held chunks": stats.held_chunks}
        left = [f"{count} {what}" for what, count in held.items() if count]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)
