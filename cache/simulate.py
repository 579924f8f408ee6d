"""Replays a trace through eviction policies with no tiers attached: how many tokens would have hit?

A trace is JSON lines, one request each, with `hash_ids`: one number per chunk of the prompt, equal for equal
prefixes (the format of Mooncake's traces), and optionally `timestamp`. The policies are the very classes of
the store, called as the store calls them: a lookup touches the prefix that is there from its end, then the
missing chunks are inserted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import TypeVar

import msgspec

from cache.policies.policy import make_policy

K = TypeVar("K")

BOUND = "belady"
"""Name of the clairvoyant bound among the policies."""


class TraceRequest(msgspec.Struct):
    """One line of a trace. Other fields are ignored."""

    hash_ids: list[int]
    timestamp: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of a trace."""

    policy: str
    capacity_chunks: int
    asked: int
    """Chunks of all prompts after the warm-up."""
    hits: int
    """Chunks of prefixes that were there: counting ends at the first missing one."""
    evictions: int

    @property
    def hit_rate(self) -> float:
        return self.hits / self.asked if self.asked else 0.0


def read_trace(path: Path) -> list[list[int]]:
    """The chunk ids of every request, in order. Raises ValueError naming the line that is none."""
    prompts: list[list[int]] = []
    decoder = msgspec.json.Decoder(TraceRequest)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                prompts.append(decoder.decode(line).hash_ids)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return prompts


def replay(prompts: Sequence[Sequence[int]], policy: str, capacity: int, *, warm_up: int = 0) -> Outcome:
    """Run prompts through a policy with room for `capacity` chunks; the first `warm_up` are not counted.

    `belady` evicts what is needed latest and keeps nothing that is not needed again: the most that can hit
    chunk by chunk. Counted by prefixes it is a yardstick rather than a proven bound. Raises UnknownPolicy,
    and ValueError for a cache without room.
    """
    if capacity < 1:
        raise ValueError("the cache must hold at least one chunk")
    if policy == BOUND:
        return _replay_clairvoyant(prompts, capacity, warm_up)
    cache = make_policy(policy, capacity)
    asked = hits = evictions = 0
    for number, prompt in enumerate(prompts):
        keys = [chunk.to_bytes(8, "little", signed=True) for chunk in prompt]
        ready = _prefix(keys, cache.__contains__)
        for key in reversed(keys[:ready]):
            cache.touch(key)
        mine = set(keys)
        missing = [key for key in dict.fromkeys(keys[ready:]) if key not in cache]
        while len(cache) + len(missing) > capacity and cache.evict(mine.__contains__) is not None:
            evictions += 1
        for key in reversed(missing[: capacity - len(cache)]):
            cache.insert(key, 1)
        if number >= warm_up:
            asked += len(keys)
            hits += ready
    return Outcome(policy, capacity, asked, hits, evictions)


def _replay_clairvoyant(prompts: Sequence[Sequence[int]], capacity: int, warm_up: int) -> Outcome:
    uses: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        for chunk in prompt:
            uses.setdefault(chunk, []).append(number)
    for times in uses.values():
        times.reverse()
    never = len(prompts)
    held: dict[int, int] = {}
    latest: list[tuple[int, int]] = []
    asked = hits = evictions = 0
    for number, prompt in enumerate(prompts):
        ready = _prefix(prompt, held.__contains__)
        if number >= warm_up:
            asked += len(prompt)
            hits += ready
        for chunk in prompt:
            times = uses[chunk]
            while times and times[-1] <= number:
                times.pop()
            following = times[-1] if times else never
            if following == never:
                held.pop(chunk, None)
                continue
            held[chunk] = following
            heappush(latest, (-following, chunk))
        while len(held) > capacity:
            when, chunk = heappop(latest)
            if held.get(chunk) == -when:
                del held[chunk]
                evictions += 1
    return Outcome(BOUND, capacity, asked, hits, evictions)


def _prefix(keys: Iterable[K], has: Callable[[K], bool]) -> int:
    count = 0
    for key in keys:
        if not has(key):
            break
        count += 1
    return count
