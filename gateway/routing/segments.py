"""Large tables in parts, so that no single call rebuilds or frees a large one.

A Python dictionary that has grown or churned is rebuilt as a whole now and then. For an ordered one of ten
thousand entries that takes three milliseconds, in which the event loop stands still.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

from gateway.routing.kv_wire import BlockHash

V = TypeVar("V")

PARTS: Final = 64
GENERATIONS: Final = 4
MOST_GENERATIONS: Final = 8
SMALLEST: Final = 16
"""A generation has at least so many keys."""


class RecentMap(Generic[V]):
    """Integer keys in the order of use, nearly: in generations, each of about a quarter of the whole.

    Use moves a key to the newest generation; the oldest is taken from in the order in which it was filled.
    Within the newest a key that is used again stays where it is, which is what makes using one cheap.
    """

    __slots__ = ("_count", "_oldest", "generations", "newest")

    def __init__(self) -> None:
        self.newest: dict[int, V] = {}
        """The newest generation; read only."""
        self.generations: list[dict[int, V]] = [self.newest]
        """The newest first, to look into without a call; read only."""
        self._oldest: list[int] = []
        """Keys that the last generation had when it was first taken from, the oldest at the end."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        for generation in self.generations:  # noqa: SIM110 - `any` takes three times as long
            if key in generation:
                return True
        return False

    def get(self, key: int) -> V | None:
        """The value, or None."""
        for generation in self.generations:
            if key in generation:
                return generation[key]
        return None

    def put(self, key: int, value: V) -> None:
        """Set a value; the key becomes the newest."""
        self.pop(key)
        self.newest[key] = value
        self._count += 1
        self._grown()

    def add(self, keys: Sequence[int], values: Sequence[V]) -> Sequence[V]:
        """Make keys the newest, in order; those that are not there yet get `values`, which are returned."""
        generations, newest = self.generations, self.newest
        if all(generation.keys().isdisjoint(keys) for generation in generations):
            newest.update(zip(keys, values, strict=True))
            fresh = values
        else:
            some: list[V] = []
            for key, value in zip(keys, values, strict=True):
                if not self._renew(key):
                    newest[key] = value
                    some.append(value)
            fresh = some
        self._count += len(fresh)
        self._grown()
        return fresh

    def renew(self, keys: Sequence[int]) -> None:
        """Make keys the newest, in order. Raises KeyError at one that is not there."""
        newest = self.newest
        moved = False
        for key in keys:
            if key not in newest:
                if not self._renew(key):
                    raise KeyError(key)
                moved = True
        if moved:
            self._grown()

    def _renew(self, key: int) -> bool:
        newest = self.newest
        for generation in self.generations:
            if key in generation:
                if generation is not newest:
                    newest[key] = generation.pop(key)
                return True
        return False

    def _grown(self) -> None:
        """Begin a new generation when the newest has its share."""
        generations = self.generations
        if len(self.newest) < max(SMALLEST, self._count // GENERATIONS):
            return
        self._begin()
        if len(generations) > MOST_GENERATIONS:
            newer = generations.pop(-2)
            self._oldest[:0] = reversed(newer) if self._oldest else ()
            generations[-1].update(newer)

    def _begin(self) -> None:
        """Begin a generation."""
        self.newest = {}
        self.generations.insert(0, self.newest)

    def pop(self, key: int) -> V | None:
        """Take a key out; its value, or None where it was not there."""
        for generation in self.generations:
            if key in generation:
                self._count -= 1
                return generation.pop(key)
        return None

    def pop_oldest(self, most: int, weight: int | None = None) -> list[tuple[int, V]]:
        """Take out `most` entries that were not used for long, or fewer, if by then the values (which must be
        numbers) add up to `weight`."""
        taken: list[tuple[int, V]] = []
        most = min(most, self._count)
        while most and (weight is None or weight > 0):
            last, oldest = self._last(), self._oldest
            while oldest and most:
                key = oldest.pop()
                value = last.pop(key, None)
                if value is None:
                    continue
                taken.append((key, value))
                most -= 1
                if weight is not None:
                    weight -= value  # type: ignore[operator]
                    if weight <= 0:
                        break
        self._count -= len(taken)
        return taken

    def _last(self) -> dict[int, V]:
        """The last generation, of which `_oldest` has keys."""
        generations = self.generations
        while not self._oldest:
            if len(generations) == 1:
                self._begin()
            elif not generations[-1]:
                generations.pop()
                continue
            self._oldest = list(generations[-1])
            self._oldest.reverse()
        return generations[-1]

    def take(self) -> list[dict[int, V]]:
        """Everything, as dictionaries that are nobody's any more, the oldest first; the map is empty then."""
        generations = self.generations
        self.generations, self._oldest, self._count = [], [], 0
        self._begin()
        return generations[::-1]


class BlockMap(Generic[V]):
    """Values by an engine's block hashes."""

    __slots__ = ("_count", "_parts")

    def __init__(self) -> None:
        self._parts: list[dict[BlockHash, V]] = [{} for _ in range(PARTS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def _part(self, key: BlockHash) -> dict[BlockHash, V]:
        return self._parts[(key if isinstance(key, int) else key[-1]) % PARTS]

    def get(self, key: BlockHash) -> V | None:
        """The value, or None."""
        return self._part(key).get(key)

    def put(self, key: BlockHash, value: V) -> None:
        """Set a value."""
        part = self._part(key)
        before = len(part)
        part[key] = value
        self._count += len(part) - before

    def pop(self, key: BlockHash) -> None:
        """Take a key out, if it is there."""
        part = self._part(key)
        before = len(part)
        part.pop(key, None)
        self._count += len(part) - before

    def take(self) -> list[dict[Any, Any]]:
        """Everything, as dictionaries that are nobody's any more; afterwards the map is empty."""
        parts: list[dict[Any, Any]] = list(self._parts)
        self._parts, self._count = [{} for _ in range(PARTS)], 0
        return parts
