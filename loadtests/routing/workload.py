"""Requests to replay: a recorded trace, or generated groups that share a system prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from random import Random

BLOCK_TOKENS = 512
"""Tokens per block of the public Mooncake traces; every figure in blocks here means these."""
SYSTEM_BLOCKS = 12
QUESTION_BLOCKS = 2


@dataclass(slots=True)
class SimRequest:
    """One request. Ids in `blocks` are unique to a prefix: equal ids, equal text up to the block's end."""

    at: float
    blocks: list[int]
    output_tokens: int
    parent: int | None = None
    """Index of the turn before it, whose end it waits for when arrivals are by think time."""
    think: float = 0.0
    """Seconds between that turn's end and this request."""
    children: list[int] = field(default_factory=list)


def read_trace(path: Path, limit: int, speedup: float = 1.0) -> list[SimRequest]:
    """Mooncake's format: one JSON object a line, `timestamp` in ms. `speedup` compresses the arrivals."""
    requests: list[SimRequest] = []
    with path.open() as lines:
        for line in lines:
            if len(requests) == limit:
                break
            r = json.loads(line)
            requests.append(SimRequest(r["timestamp"] / 1000 / speedup, r["hash_ids"], r["output_length"]))
    start = requests[0].at
    for request in requests:
        request.at -= start
    return requests


def spread(requests: list[SimRequest], tick: float = 3.0) -> list[SimRequest]:
    """Arrivals of one instant spread evenly over the recorder's tick: the public trace counts in 3 s."""
    together: dict[float, list[SimRequest]] = {}
    for request in requests:
        together.setdefault(request.at, []).append(request)
    return [
        replace(request, at=at + tick * place / len(some))
        for at, some in together.items()
        for place, request in enumerate(some)
    ]


def with_think_times(requests: list[SimRequest], itl: float) -> list[SimRequest]:
    """The same requests as sessions: a turn arrives when its user has read the answer to the last one.

    The trace has no session ids. A request continues the latest earlier one whose blocks, all but the last,
    are a prefix of its own (of two blocks or more: the first is everybody's system prompt). The think time is
    what the trace leaves after decoding.
    """
    linked = [replace(r, children=[]) for r in requests]
    last_with: dict[int, int] = {}
    for index, request in enumerate(linked):
        for block in reversed(request.blocks[1:]):
            parent = last_with.get(block)
            if parent is not None:
                gap = request.at - linked[parent].at - linked[parent].output_tokens * itl
                if gap >= 0:
                    request.parent, request.think = parent, gap
                    linked[parent].children.append(index)
                break
        if len(request.blocks) > 2:
            last_with[request.blocks[-2]] = index
    return linked


def shared_prefixes(
    rate: float, seconds: float, seed: int, groups: int = 150, users: int = 5
) -> list[SimRequest]:
    """llm-d's benchmark, in blocks: groups of users under one system prompt of 6k tokens, a question of 1k
    tokens per user, which recurs, 1k tokens of answer, Poisson arrivals at `rate` per second."""
    random = Random(seed)
    requests: list[SimRequest] = []
    at = 0.0
    while (at := at + random.expovariate(rate)) <= seconds:
        group, user = random.randrange(groups), random.randrange(users)
        first = group * 1000
        question = first + 100 + 10 * user
        blocks = [*range(first, first + SYSTEM_BLOCKS), *range(question, question + QUESTION_BLOCKS)]
        requests.append(SimRequest(at, blocks, 1000))
    return requests


class Texts:
    """Spells blocks as text, so that a router sees bytes and no ids."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes

    def body(self, blocks: list[int]) -> bytes:
        """A `messages` array of one user message."""
        return b'[{"role":"user","content":"' + b"".join(map(self._block, blocks)) + b'"}]'

    def _block(self, block: int) -> bytes:
        word = sha256(block.to_bytes(8, "big")).hexdigest().encode()
        return (word * (self.block_bytes // len(word) + 1))[: self.block_bytes]
