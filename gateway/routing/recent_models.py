"""Which model names a worker has served last: what stands for the adapters on its device."""

from __future__ import annotations

from itertools import islice

KEPT = 64


class RecentModels:
    """Names, the latest first in `holds`; at most KEPT."""

    __slots__ = ("_names", "latest")

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self.latest: str | None = None

    def __len__(self) -> int:
        return len(self._names)

    def touch(self, name: str) -> None:
        """A request for `name` was sent to the worker."""
        self._names.pop(name, None)
        self._names[name] = None
        self.latest = name
        if len(self._names) > KEPT:
            del self._names[next(iter(self._names))]

    def holds(self, name: str, slots: int) -> bool:
        """Is `name` among the `slots` latest?"""
        return name in islice(reversed(self._names), slots)

    def clear(self) -> None:
        """The worker restarted."""
        self._names.clear()
        self.latest = None
