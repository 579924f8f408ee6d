"""CacheGen's adaptive streaming: before each chunk of a stored context, at which level to send it, or not at
all.

A context lies in a slow tier in chunks, each encoded at several levels. Chunks are taken in order. Whoever
drives a transfer asks a policy before each chunk, with what is known by then: the time used up and how the
transfers so far went. The answer is a level, or TEXT: compute the chunk from its tokens, which loses nothing
and takes no bandwidth. Pure arithmetic; times in seconds since the request, sizes in bytes.

    progress = Progress(elapsed, chunk, transfers)
    level = RemainingTime(default=1).choose(context, progress, slo)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

TEXT: Final = -1
"""Instead of a level: compute the chunk."""


@dataclass(frozen=True, slots=True)
class StoredContext:
    """What a policy may know of a context before any of it is sent."""

    sizes: tuple[tuple[int, ...], ...]
    """[chunk][level], the best level first."""
    text_seconds: tuple[float, ...]
    """[chunk], to compute it when everything before it is there."""
    decode_seconds: tuple[float, ...]
    """[chunk], from its last byte until its KV is usable; beside the next chunk's transfer."""
    damage: tuple[float, ...]
    """[level], what a chunk at that level costs in quality, e.g. KL; 0 for a lossless one. As for TEXT."""

    def __post_init__(self) -> None:
        if not len(self.sizes) == len(self.text_seconds) == len(self.decode_seconds):
            raise ValueError("sizes, text_seconds and decode_seconds need an entry for every chunk")
        if not self.damage or any(len(sizes) != len(self.damage) for sizes in self.sizes):
            raise ValueError("every chunk needs a size, and the context a damage, for every level")

    @property
    def chunks(self) -> int:
        return len(self.sizes)

    def bytes_from(self, chunk: int, level: int) -> int:
        """Of all chunks from `chunk` on, at one level."""
        return sum(sizes[level] for sizes in self.sizes[chunk:])


class Transfer(NamedTuple):
    """A chunk that has arrived."""

    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a context stands when the next chunk is chosen."""

    elapsed: float
    chunk: int
    """The next one."""
    transfers: Sequence[Transfer] = ()
    """Of this context, oldest first."""
    pending: float = 0.0
    """Seconds until every chunk before this one is usable: what has arrived decoded, what came as text
    computed."""
    foreseen: float | None = None
    """Bytes per second that this chunk will meet. Only a simulation knows."""


class Policy(Protocol):
    """Chooses how the next chunk comes. Instances are immutable: one serves every context."""

    @property
    def name(self) -> str: ...

    def choose(self, context: StoredContext, progress: Progress, slo: float) -> int:
        """A level of `context`, or TEXT; `slo` is the second by which the whole context should be usable."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every chunk at one level, or with TEXT every chunk computed."""

    level: int
    name: str

    def choose(self, context: StoredContext, progress: Progress, slo: float) -> int:
        return self.level


@dataclass(frozen=True, slots=True)
class ChunkBudget:
    """The rule of CacheGen's released script: every chunk has the same share of the time, whatever the others
    took, and the bandwidth that it will meet is known."""

    name: str = "chunk budget"

    def choose(self, context: StoredContext, progress: Progress, slo: float) -> int:
        """Raises ValueError without `progress.foreseen`: the rule only exists where bandwidth is foreseen."""
        if progress.foreseen is None:
            raise ValueError("the per-chunk budget needs to know the bandwidth in advance")
        budget = slo / context.chunks
        if context.text_seconds[progress.chunk] <= budget:
            return TEXT
        sizes = context.sizes[progress.chunk]
        fitting = (level for level, size in enumerate(sizes) if size <= budget * progress.foreseen)
        return next(fitting, len(sizes) - 1)


@dataclass(frozen=True, slots=True)
class RemainingTime:
    """The paper's rule (2310.07240, section 5.3): text if all that is left can be computed in time, else the
    best level at which all that is left arrives in time at the last chunk's throughput, else the smallest."""

    default: int
    """For the first chunk, before anything was measured; may be TEXT."""
    prior: float | None = None
    """Bytes per second known from earlier, used for the first chunk instead of `default`."""
    name: str = "remaining time"

    def choose(self, context: StoredContext, progress: Progress, slo: float) -> int:
        left = slo - progress.elapsed
        if sum(context.text_seconds[progress.chunk :]) + progress.pending <= left:
            return TEXT
        if progress.transfers:
            last = progress.transfers[-1]
            room = left * last.nbytes / max(last.seconds, 1e-9)
        elif self.prior is not None:
            room = left * self.prior
        else:
            return self.default
        levels = range(len(context.damage))
        fitting = (level for level in levels if context.bytes_from(progress.chunk, level) <= room)
        return next(fitting, len(levels) - 1)


@dataclass(frozen=True, slots=True)
class LookAhead:
    """Ours: the least damage over whole plans that a cautious estimate of the link still lets end in time.

    Differs from the paper's rule in three things. A plan may mix: some chunks computed, the rest loaded. The
    estimate of the link is the mean over this context's transfers plus their mean deviation, slower by a
    share of `caution`: a plan that uses all the time is late as soon as the link is not what it was. And
    where nothing ends in time, the plan that ends first is taken, which may be text on a link that has
    collapsed.

    With `overlap` the chunks at the front are computed while later ones travel. Without, as engines that load
    a prefix and compute what follows it, the chunks at the end are computed when the loaded ones are there.
    """

    default: int
    """Level for the first chunk, unless computing everything ends in time."""
    prior: float | None = None
    """Bytes per second known from earlier, used for the first chunk instead of `default`."""
    caution: float = 0.5
    overlap: bool = True
    name: str = "look-ahead"

    def choose(self, context: StoredContext, progress: Progress, slo: float) -> int:
        pace = self._pace(progress.transfers)
        first, chunks = progress.chunk, context.chunks
        if pace is None:
            everything = progress.elapsed + progress.pending + sum(context.text_seconds[first:])
            return TEXT if everything <= slo else self.default
        best: tuple[tuple[float, float, float], int] | None = None
        for level, damage in enumerate(context.damage):
            for computed in range(chunks - first + 1):
                loaded = chunks - first - computed
                end = self._end(context, progress, level, computed, pace)
                late = max(0.0, end - slo)
                # A plan that is late is judged by its end alone, one in time by damage and then by its end.
                rank = (late, 0.0 if late else damage * loaded, end)
                if best is None or rank < best[0]:
                    comes_as_text = computed > 0 if self.overlap else loaded == 0
                    best = (rank, TEXT if comes_as_text else level)
        assert best is not None  # there is at least one level, and one way to divide the chunks
        return best[1]

    def _end(
        self, context: StoredContext, progress: Progress, level: int, computed: int, pace: float
    ) -> float:
        """When everything is usable if `computed` of the chunks left are text and the others at `level`."""
        first, last = progress.chunk, context.chunks
        cut = first + computed if self.overlap else last - computed
        text, sent = ((first, cut), (cut, last)) if self.overlap else ((cut, last), (first, cut))
        link = progress.elapsed
        if sent[0] < sent[1]:
            nbytes = sum(sizes[level] for sizes in context.sizes[slice(*sent)])
            link += nbytes * pace + context.decode_seconds[sent[1] - 1]
        computing = progress.elapsed + progress.pending
        if not self.overlap:
            computing = max(computing, link)
        return max(link, computing + sum(context.text_seconds[slice(*text)]))

    def _pace(self, transfers: Sequence[Transfer]) -> float | None:
        """Cautious seconds per byte; None if there is nothing to go by.

        Every transfer weighs twice as much as the one before it: a link changes.
        """
        if not transfers:
            return None if self.prior is None else (1 + self.caution) / self.prior
        mean = transfers[0].seconds / max(transfers[0].nbytes, 1)
        deviation = 0.0
        for transfer in transfers[1:]:
            error = transfer.seconds / max(transfer.nbytes, 1) - mean
            mean += error / 2
            deviation += (abs(error) - deviation) / 2
        return (mean + deviation) * (1 + self.caution)
