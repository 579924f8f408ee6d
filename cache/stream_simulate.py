"""Streams contexts over simulated links through the policies of `cache.stream`: who keeps the SLO, at what
quality?

Simulated are one link that carries one chunk at a time, a decoder beside it, and an engine that computes text
chunks in order while the link goes on. Nothing is transferred, encoded or computed.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import fmean, stdev
from types import MappingProxyType

from cache.stream import TEXT, Fixed, Policy, Progress, StoredContext, Transfer

GBIT = 1e9 / 8
"""Bytes per second in one Gbit/s."""
LOWEST, HIGHEST = 0.1 * GBIT, 10 * GBIT
_STEP = 0.1
_STEPS = 300
ORACLE = "oracle"


class LinkTrace:
    """A link's bytes per second over time, constant within each step; the last step goes on for ever."""

    def __init__(self, rates: Sequence[float], step: float = _STEP) -> None:
        if not rates or min(rates) <= 0:
            raise ValueError("a link needs a rate above zero in every step")
        self._rates, self._step = tuple(rates), step
        self._sent = (0.0, *accumulate(rate * step for rate in rates))

    def rate(self, at: float) -> float:
        return self._rates[min(int(at / self._step), len(self._rates) - 1)]

    def sent(self, until: float) -> float:
        """Bytes from time 0."""
        step = min(int(until / self._step), len(self._rates) - 1)
        return self._sent[step] + (until - step * self._step) * self._rates[step]

    def end(self, start: float, nbytes: float) -> float:
        """When a transfer that begins at `start` has ended."""
        goal = self.sent(start) + nbytes
        step = min(max(bisect_right(self._sent, goal) - 1, 0), len(self._rates) - 1)
        return max(start, step * self._step + (goal - self._sent[step]) / self._rates[step])


def steady(draw: random.Random) -> LinkTrace:
    """One rate, log-uniform between 0.1 and 10 Gbit/s."""
    return LinkTrace([_log_uniform(draw)])


def jumps(draw: random.Random) -> LinkTrace:
    """A rate uniform between 0.1 and 10 Gbit/s every 300 ms: as CacheGen's released traces, which draw one
    for each chunk."""
    return LinkTrace([draw.uniform(LOWEST, HIGHEST) for _ in range(_STEPS // 3)], 3 * _STEP)


def random_walk(draw: random.Random) -> LinkTrace:
    """Starts log-uniform and walks in its logarithm: a standard deviation of 20 % every 100 ms, within 0.1
    and 10 Gbit/s."""
    rate = _log_uniform(draw)
    rates = []
    for _ in range(_STEPS):
        rates.append(rate)
        rate = min(max(rate * math.exp(draw.gauss(0, 0.2)), LOWEST), HIGHEST)
    return LinkTrace(rates)


def bursty(draw: random.Random) -> LinkTrace:
    """A rate between 1 and 10 Gbit/s of which, for 300 ms out of 1.2 s on average, others leave a tenth."""
    whole = 10 ** draw.uniform(0, 1) * GBIT
    crowded = draw.random() < 0.25
    rates = []
    for _ in range(_STEPS):
        rates.append(whole / 10 if crowded else whole)
        crowded = draw.random() >= 1 / 3 if crowded else draw.random() < 1 / 9
    return LinkTrace(rates)


LINKS: Mapping[str, Callable[[random.Random], LinkTrace]] = MappingProxyType(
    {"steady": steady, "jumps": jumps, "random walk": random_walk, "bursty": bursty}
)


def _log_uniform(draw: random.Random) -> float:
    return float(LOWEST * (HIGHEST / LOWEST) ** draw.random())


@dataclass(frozen=True, slots=True)
class LevelFigures:
    """What storing at a level takes and costs, as measured."""

    name: str
    bits_per_element: float
    damage: float
    """KL to full KV, nats; 0 if lossless."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on its hardware. The defaults are those of a Llama of 8B parameters; its rates are assumptions,
    not measurements."""

    levels: tuple[LevelFigures, ...]
    """Best first."""
    elements_per_token: int = 65536
    """32 layers, 8 KV heads of 128, keys and values."""
    prefill_rate: float = 4000.0
    """Tokens per second at the start of a context."""
    doubling_tokens: int = 32768
    """Context after which a token takes twice as long to compute."""
    decode_rate: float = 10e9
    """Bytes per second of bfloat16 that come out of the decoder."""

    def context(self, chunks: int, chunk_tokens: int) -> StoredContext:
        """A context of so many equal chunks."""
        elements = chunk_tokens * self.elements_per_token
        sizes = tuple(math.ceil(elements * level.bits_per_element / 8) for level in self.levels)
        middles = ((number + 0.5) * chunk_tokens for number in range(chunks))
        return StoredContext(
            sizes=(sizes,) * chunks,
            text_seconds=tuple(
                chunk_tokens / self.prefill_rate * (1 + middle / self.doubling_tokens) for middle in middles
            ),
            decode_seconds=(2 * elements / self.decode_rate,) * chunks,
            damage=tuple(level.damage for level in self.levels),
        )


@dataclass(frozen=True, slots=True)
class Streamed:
    """How one context came."""

    seconds: float
    """Until all of it was usable."""
    damage: float
    """Mean over chunks. That the damage of a mixture is the mean is an assumption."""
    nbytes: int
    text: float
    """Share of chunks that were computed."""


def stream(context: StoredContext, trace: LinkTrace, policy: Policy, slo: float) -> Streamed:
    """Run one context over one link."""
    now = ready = 0.0
    transfers: list[Transfer] = []
    damage, nbytes, texts = 0.0, 0, 0
    for chunk in range(context.chunks):
        progress = Progress(now, chunk, transfers, max(0.0, ready - now), trace.rate(now))
        choice = policy.choose(context, progress, slo)
        if choice == TEXT:
            ready = max(now, ready) + context.text_seconds[chunk]
            texts += 1
            continue
        size = context.sizes[chunk][choice]
        end = trace.end(now, size)
        transfers.append(Transfer(size, end - now))
        now = end
        ready = max(ready, end + context.decode_seconds[chunk])
        damage += context.damage[choice]
        nbytes += size
    return Streamed(ready, damage / context.chunks, nbytes, texts / context.chunks)


def oracle(context: StoredContext, trace: LinkTrace, slo: float) -> Streamed:
    """The best that any policy could have done for a context of equal chunks: no damage that could have been
    avoided in time, or else the earliest end.

    Tries every number of text chunks, which cost least and overlap most at the front, with every way to
    divide the rest among levels, whose order does not matter.
    """
    chunks, sizes = context.chunks, context.sizes[0]
    best: tuple[tuple[float, float, float], Streamed] | None = None
    for texts in range(chunks + 1):
        computing = sum(context.text_seconds[:texts])
        for counts in _divisions(chunks - texts, len(sizes)):
            nbytes = sum(count * size for count, size in zip(counts, sizes, strict=True))
            damage = sum(count * one for count, one in zip(counts, context.damage, strict=True)) / chunks
            arrived = trace.end(0.0, nbytes) + context.decode_seconds[-1] if texts < chunks else 0.0
            seconds = max(computing, arrived)
            late = max(0.0, seconds - slo)
            rank = (late, 0.0 if late else damage, seconds)
            if best is None or rank < best[0]:
                best = (rank, Streamed(seconds, damage, nbytes, texts / chunks))
    assert best is not None
    return best[1]


def _divisions(things: int, kinds: int) -> Iterator[tuple[int, ...]]:
    """Every way to give each of so many equal things one of the kinds."""
    if kinds == 1:
        yield (things,)
        return
    for first in range(things + 1):
        for rest in _divisions(things - first, kinds - 1):
            yield (first, *rest)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one row of results is about."""

    link: str
    slo: float
    chunk_tokens: int
    seeds: int
    tokens: tuple[int, int] = (4608, 15360)
    """Least and most of a context; uniform between them, in whole chunks."""
    first_seed: int = 0

    def cases(self, deployment: Deployment) -> Iterator[tuple[StoredContext, LinkTrace]]:
        """The same for every policy, SLO and run: context and link depend on the seed alone."""
        for seed in range(self.first_seed, self.first_seed + self.seeds):
            draw = random.Random(f"{self.link}/{seed}")
            tokens = draw.uniform(*self.tokens)
            chunks = max(1, round(tokens / self.chunk_tokens))
            yield deployment.context(chunks, self.chunk_tokens), LINKS[self.link](draw)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Means over seeds. `low` and `high` bound 95 % intervals: Wilson's for the violation rate, the normal
    one for the damage."""

    scenario: Scenario
    policy: str
    violations: float
    violations_low: float
    violations_high: float
    damage: float
    damage_low: float
    damage_high: float
    megabytes: float
    text: float
    median_seconds: float
    p95_seconds: float


def simulate(
    scenarios: Iterable[Scenario], deployment: Deployment, policies: Sequence[Policy], *, with_oracle: bool
) -> Iterator[Outcome]:
    """One outcome per scenario and policy; the oracle is slow for contexts of many chunks."""
    for scenario in scenarios:
        cases = list(scenario.cases(deployment))
        for policy in policies:
            runs = [stream(context, trace, policy, scenario.slo) for context, trace in cases]
            yield summary(scenario, policy.name, runs)
        if with_oracle:
            runs = [oracle(context, trace, scenario.slo) for context, trace in cases]
            yield summary(scenario, ORACLE, runs)


def summary(scenario: Scenario, policy: str, runs: Sequence[Streamed]) -> Outcome:
    """What the runs of one policy come to."""
    late = sum(run.seconds > scenario.slo for run in runs)
    low, high = wilson(late, len(runs))
    damages = [run.damage for run in runs]
    mean = fmean(damages)
    spread = 1.96 * stdev(damages) / math.sqrt(len(damages)) if len(damages) > 1 else math.inf
    ordered = sorted(run.seconds for run in runs)
    return Outcome(
        scenario=scenario,
        policy=policy,
        violations=late / len(runs),
        violations_low=low,
        violations_high=high,
        damage=mean,
        damage_low=max(0.0, mean - spread),
        damage_high=mean + spread,
        megabytes=fmean(run.nbytes for run in runs) / 1e6,
        text=fmean(run.text for run in runs),
        median_seconds=ordered[len(ordered) // 2],
        p95_seconds=ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
    )


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate."""
    z = 1.96
    rate = hits / of
    middle = (rate + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def fixed_policies(levels: Sequence[LevelFigures]) -> list[Policy]:
    """Each level alone, and text alone."""
    at_levels: list[Policy] = [Fixed(number, f"only {level.name}") for number, level in enumerate(levels)]
    return [*at_levels, Fixed(TEXT, "only text")]


def sweep(links: Iterable[str], slos: Sequence[float], base: Scenario) -> list[Scenario]:
    """Every link with every SLO; the rest as in `base`. Raises ValueError for a link that does not exist."""
    links = list(links)
    for link in links:
        if link not in LINKS:
            raise ValueError(f"there is no link {link!r}; there are {', '.join(LINKS)}")
    return [replace(base, link=link, slo=slo) for link in links for slo in slos]
