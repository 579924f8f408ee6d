"""Quotas in an object store, which counts nothing by itself: bytes by tenant and namespace from listings.

Keys begin with the namespace, so that a listing tells what each has. Whose a namespace is says an empty
object beside its frames, `<prefix>/<namespace>/tenant-<name in hexadecimal>`. Between two listings a process
adds its own writes and knows of no others: a bound holds up to what all others write meanwhile. Pure
bookkeeping; the tier lists and deletes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappush, heappushpop, nlargest
from typing import NamedTuple

from cache.keys import ChunkKey, namespace_of
from cache.settings import Owner, Quotas
from cache.tiers.tier import Fault, Frame

_MARKER = "tenant-"
_REMEMBERED = 1024
"""Objects of each namespace, those written first: what can be removed before the next listing."""
_SOONER = 10.0
"""So many times sooner the next listing comes once none of those is left."""


class _Old(NamedTuple):
    """Smallest for the object written last, which a heap of the oldest gives up first."""

    age: float
    key: ChunkKey
    nbytes: int


class Listing:
    """What one walk over the bucket has seen so far."""

    def __init__(self) -> None:
        self.bytes: Counter[bytes] = Counter()
        self.tenants: dict[bytes, str] = {}
        self.oldest: dict[bytes, list[_Old]] = {}
        self.reached: str | None = None
        """The path after which it goes on, if it was interrupted."""

    def saw(self, path: str, name: str, key: ChunkKey | None, nbytes: int, modified: float) -> None:
        """The walk has come to an object: a frame, or else `name` is what it is called below the prefix."""
        self.reached = path
        if key is None:
            if (found := _marked(name)) is not None:
                self.tenants[found[0]] = found[1]
            return
        namespace = namespace_of(key)
        self.bytes[namespace] += nbytes
        heap, old = self.oldest.setdefault(namespace, []), _Old(-modified, key, nbytes)
        if len(heap) < _REMEMBERED:
            heappush(heap, old)
        else:
            heappushpop(heap, old)


class ObjectShares:
    """What the owners with a bound have in one bucket. `now` is in seconds, on any clock."""

    def __init__(self, quotas: Quotas, every: float) -> None:
        """`every`: seconds between listings."""
        self._quotas = quotas
        self._every = every
        self._listed = self._due = float("-inf")
        self._known = Listing()
        self._marked: set[bytes] = set()
        """Namespaces that have a marker."""
        self.listing = Listing()
        """The one under way."""

    @property
    def bound(self) -> bool:
        """Whether anybody is limited."""
        return self._quotas.bound_tenants or self._quotas.bound_namespaces

    def is_due(self, now: float) -> bool:
        """Whether to list, or to go on listing."""
        return now >= self._due

    def listed(self, now: float) -> None:
        """The listing has come to its end: it replaces what was known."""
        self._marked |= self.listing.tenants.keys()
        self.listing.tenants = self._known.tenants | self.listing.tenants
        self._known, self.listing = self.listing, Listing()
        self._listed, self._due = now, now + self._every

    def used(self) -> dict[Owner, int]:
        """Bytes by owner as of the last listing, with this process's own writes since."""
        counts: Counter[Owner] = Counter()
        for namespace, nbytes in self._known.bytes.items():
            counts[namespace] += nbytes
            counts[self._known.tenants.get(namespace, "")] += nbytes
        return {owner: nbytes for owner, nbytes in counts.items() if nbytes > 0}

    def marker(self, frame: Frame) -> str | None:
        """The name of the object that says whose the frame's namespace is; None if there is one, or it
        has been asked for."""
        namespace = namespace_of(frame.key)
        if not frame.tenant or namespace in self._marked:
            return None
        self._marked.add(namespace)
        return f"{namespace.hex()}/{_MARKER}{frame.tenant.encode().hex()}"

    def admit(self, frames: Sequence[Frame]) -> tuple[list[ChunkKey], list[Fault | None]]:
        """What to remove so that the frames fit, and which of them do not fit even so. Counts what is removed
        as gone and what fits as written; `lost` and `removed` are for what comes otherwise.

        A frame that is there already counts twice until the next listing.
        """
        doomed: list[ChunkKey] = []
        answers: list[Fault | None] = []
        for frame in frames:
            namespace = namespace_of(frame.key)
            self._known.tenants.setdefault(namespace, frame.tenant)
            used = self.used()
            fault: Fault | None = None
            for owner, kind in ((namespace, Fault.NAMESPACE_QUOTA), (frame.tenant, Fault.QUOTA)):
                quota = self._quotas.of(owner)
                if quota is None:
                    continue
                more = used.get(owner, 0) + frame.nbytes - quota
                if frame.nbytes > quota or not self._remove(owner, more, doomed):
                    fault = kind
                    break
            if fault is None:
                self._known.bytes[namespace] += frame.nbytes
            answers.append(fault)
        return doomed, answers

    def lost(self, frame: Frame) -> None:
        """A frame that was admitted was not written after all."""
        self._known.bytes[namespace_of(frame.key)] -= frame.nbytes

    def wrote(self, frame: Frame, now: float) -> None:
        """It was; `now` is on the wall clock. Until the next listing it can be removed like any other."""
        oldest = self._known.oldest.setdefault(namespace_of(frame.key), [])
        if len(oldest) < _REMEMBERED:
            oldest.append(_Old(-now, frame.key, frame.nbytes))

    def removed(self, key: ChunkKey, nbytes: int) -> None:
        """A frame was removed that `admit` had not named."""
        namespace = namespace_of(key)
        self._known.bytes[namespace] -= nbytes
        oldest = self._known.oldest.get(namespace, [])
        oldest[:] = [old for old in oldest if old.key != key]

    def _remove(self, owner: Owner, nbytes: int, doomed: list[ChunkKey]) -> bool:
        """Choose an owner's oldest objects, of `nbytes` at least; False if not so many are known, which calls
        for another listing."""
        known = self._known
        namespaces = [
            namespace for namespace in known.oldest if owner in (namespace, known.tenants.get(namespace, ""))
        ]
        old = nlargest(_REMEMBERED, (item for name in namespaces for item in known.oldest[name]))
        for item in old:
            if nbytes <= 0:
                break
            namespace = namespace_of(item.key)
            known.oldest[namespace].remove(item)
            known.bytes[namespace] -= item.nbytes
            doomed.append(item.key)
            nbytes -= item.nbytes
        if nbytes > 0:
            self._due = min(self._due, self._listed + self._every / _SOONER)
        return nbytes <= 0


def _marked(name: str) -> tuple[bytes, str] | None:
    """The namespace and tenant of `<namespace>/tenant-<hexadecimal>`."""
    namespace, _, marker = name.partition("/")
    if not marker.startswith(_MARKER):
        return None
    try:
        return bytes.fromhex(namespace), bytes.fromhex(marker.removeprefix(_MARKER)).decode()
    except ValueError:
        return None
