"""Writing chunks to slower tiers: queues with a bound, encoding on the lane, room made by eviction."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import xxhash

from cache.codecs.codec import Codec
from cache.counters import MEMORY
from cache.frame import Header, encode_head
from cache.index import Entry, Place
from cache.keys import ChunkKey, namespace_of
from cache.ladder import Streamer
from cache.landing import RAW
from cache.layout import KVLayout, view_of
from cache.ledger import Ledger
from cache.link import REFUSED, Link, Save
from cache.policies.quotas import QuotaPolicy
from cache.settings import Owner
from cache.tiers.tier import Fault, Frame

_log = logging.getLogger(__name__)
_EVICTION_ROUNDS = 4
_EVICT_AT_ONCE = 8
"""Fewest frames removed when a tier is full: one directory round trip is not spent on each."""


class Saver:
    """Queues saves, runs them on the links' write lanes. `clock` and `wall` as in the store."""

    def __init__(
        self,
        ledger: Ledger,
        links: Mapping[str, Link],
        layout: KVLayout,
        blocks: int,
        *,
        codec_for: Callable[[Link, ChunkKey], Codec],
        wall: Callable[[], float],
    ) -> None:
        """`codec_for` names the codec that a chunk is written with in a tier."""
        self._ledger = ledger
        self._links = links
        self._layout = layout
        self._blocks = blocks
        self._codec_for = codec_for
        self._wall = wall
        self._write_back = [link for link in links.values() if link.settings.write == "back"]

    @property
    def writes_back(self) -> bool:
        """Whether any tier gets chunks only when the arena drops them."""
        return bool(self._write_back)

    # With the lock held

    def enqueue(
        self,
        entry: Entry,
        link: Link,
        *,
        codec: Codec | None = None,
        then: Callable[[bool], None] | None = None,
    ) -> bool:
        """Queue a readable chunk for a tier; False, and `then` is never called, if it is dropped instead.

        Dropped is what is being written already, what comes too fast, and what a broken tier cannot take.
        """
        if entry.slot is None or entry.key in link.saving:
            return False
        if not self._takes(link):
            link.counters.dropped += 1
            return False
        self._push(link, Save(entry, codec or self._codec_for(link, entry.key), then))
        return True

    def saved(self, entries: Sequence[Entry]) -> None:
        """The chunks are new in the arena: write them through."""
        for link in self._links.values():
            if link.settings.write != "through":
                continue
            wanted = [
                entry for entry in entries if link.name not in entry.places and entry.key not in link.saving
            ]
            room = link.settings.queue_chunks - len(link.waiting) if wanted and self._takes(link) else 0
            link.counters.dropped += len(wanted) - min(room, len(wanted))
            for entry in wanted[:room]:
                self._push(link, Save(entry, self._codec_for(link, entry.key), None))

    def arrived(self, entry: Entry, tier: str) -> None:
        """The chunk came from `tier`: copy it to the faster ones that want that."""
        for name, link in self._links.items():
            if name == tier:
                return
            if link.settings.fill_on_hit and name not in entry.places:
                self.enqueue(entry, link)

    def before_drop(self, entry: Entry) -> bool:
        """See `Ledger.before_drop`: write a victim back to the tiers that wait for that."""
        queued = 0
        written = 0

        def one_written(_: bool) -> None:
            nonlocal written
            written += 1
            if written == queued:
                self._ledger.leave(entry)

        for link in self._write_back:
            if link.name not in entry.places and self.enqueue(entry, link, then=one_written):
                queued += 1
        return queued > 0

    def remove(self, link: Link, keys: Sequence[ChunkKey]) -> None:
        """Delete frames from a tier, in the background."""
        if link.policy is not None:
            for key in keys:
                link.policy.remove(key)
        link.writes.submit(partial(link.delete, keys))

    def _takes(self, link: Link) -> bool:
        """Whether the link has room for a save, and a job that will do it."""
        if len(link.waiting) >= link.settings.queue_chunks or not link.available():
            return False
        # One job writes all that waits: the lane cannot begin it before the lock is free.
        link.draining = link.draining or link.writes.submit(partial(self._drain, link))
        return link.draining

    def _push(self, link: Link, save: Save) -> None:
        self._ledger.hold(save.entry)
        link.saving.add(save.entry.key)
        link.waiting.append(save)

    # On the write lanes

    def _drain(self, link: Link) -> None:
        """Write what waits, batch by batch."""
        while saves := self._next(link):
            done: set[ChunkKey] = set()
            try:
                frames = [frame for save in saves if (frame := self._frame(link, save)) is not None]
                done = self._write(link, frames)
                if link.streamer is not None:
                    self._write_better(
                        link, link.streamer, [save for save in saves if save.entry.key in done]
                    )
            except Exception:
                # The queue behind this batch must not wait for ever.
                _log.exception("a batch for tier %s was lost", link.name)
            with self._ledger.lock:
                for save in saves:
                    self._finish(link, save, save.entry.key in done)

    def _next(self, link: Link) -> list[Save]:
        with self._ledger.lock:
            saves = [link.waiting.popleft() for _ in range(min(link.settings.batch, len(link.waiting)))]
            link.draining = bool(saves)
        return saves

    def _finish(self, link: Link, save: Save, written: bool) -> None:
        entry = save.entry
        link.saving.discard(entry.key)
        if not written:
            link.counters.dropped += 1
        self._ledger.unhold(entry)
        if save.then is not None:
            save.then(written)

    def _frame(self, link: Link, save: Save) -> Frame | None:
        """The frame of a chunk; None, counted, if its slot is not what was sealed or it cannot be encoded."""
        entry, arena = save.entry, self._ledger.arena
        ref = entry.slot
        if not entry.indexed:  # cleared while it waited
            return None
        digest = arena.sealed(ref) if ref is not None else None
        if ref is None or digest is None:
            link.counters.fault(Fault.CORRUPT)
            return None
        payload = arena.memory(ref)
        config: Mapping[str, object] = {}
        if save.codec.name != RAW:
            # A raw payload carries the slot's own checksum along; encoding would launder a flipped bit.
            if not arena.verify(ref):
                self._ledger.discard(entry)
                link.counters.fault(Fault.CORRUPT)
                return None
            out = np.empty(save.codec.bound(self._layout, self._blocks), dtype=np.uint8)
            try:
                taken = save.codec.encode(view_of(self._layout, payload, self._blocks, entry.position), out)
            except Exception:
                _log.exception("codec %s cannot encode a chunk", save.codec.name)
                link.counters.fault(Fault.CODEC)
                return None
            payload, config = out[:taken], save.codec.config()
            digest = xxhash.xxh3_128_digest(payload.data)
        header = Header(
            key=entry.key,
            layout=self._layout.fingerprint(),
            blocks=self._blocks,
            position=entry.position,
            codec=save.codec.name,
            config=config,
            payload_bytes=payload.nbytes,
            digest=digest,
            written=int(self._wall()),
            expires=int(entry.expires or 0),
        )
        return Frame(entry.key, encode_head(header), payload, entry.tenant)

    def _write(self, link: Link, frames: Sequence[Frame]) -> set[ChunkKey]:
        """Write frames, evicting where the tier is full; returns the keys that are there now."""
        done: set[ChunkKey] = set()
        left = list(frames)
        refused: dict[ChunkKey, Fault] = {}
        for attempt in range(_EVICTION_ROUNDS):
            if not left:
                break
            if attempt and not self._make_room_for(link, left, refused):
                break
            faults = link.store(left)
            wall = self._wall()
            with self._ledger.lock:
                for frame, fault in zip(left, faults, strict=True):
                    if fault is None:
                        done.add(frame.key)
                        self._placed(link, frame, wall)
            refused = {
                frame.key: fault for frame, fault in zip(left, faults, strict=True) if fault in REFUSED
            }
            left = [frame for frame in left if frame.key in refused]
        for frame in left:
            link.counters.fault(refused[frame.key])
        return done

    def _make_room_for(self, link: Link, frames: Sequence[Frame], refused: Mapping[ChunkKey, Fault]) -> bool:
        """Evict for frames that were refused: a tenant's or a namespace's own chunks where its quota is used
        up."""
        wanted: Counter[Owner | None] = Counter()
        for frame in frames:
            owners: dict[Fault, Owner] = {
                Fault.QUOTA: frame.tenant,
                Fault.NAMESPACE_QUOTA: namespace_of(frame.key),
            }
            wanted[owners.get(refused[frame.key])] += frame.nbytes
        made = [self._make_room(link, nbytes, owner) for owner, nbytes in wanted.items()]
        return any(made)

    def _write_better(self, link: Link, streamer: Streamer, saves: Sequence[Save]) -> None:
        """Write chunks at the better levels of their namespaces too. One that is lost is only not offered."""
        frames: list[Frame] = []
        for save in saves:
            ladder = streamer.ladder([save.entry.key])
            # What came from a tier has lost something already: a finer level would only look better.
            if ladder is None or save.entry.origin != MEMORY:
                continue
            for level, rung in enumerate(ladder.rungs[: ladder.own]):
                frame = self._frame(link, replace(save, codec=rung.codec))
                if frame is not None:
                    frames.append(frame._replace(key=ladder.key(frame.key, level)))
        if frames:
            link.store(frames)

    def _placed(self, link: Link, frame: Frame, wall: float) -> None:
        entry = self._ledger.entries.get(frame.key)
        if entry is None:  # cleared while it was written: the frame must not outlive the wish
            self.remove(link, [frame.key])
            return
        self._ledger.placed(entry, link.name, Place(frame.nbytes, wall))
        if link.policy is not None:
            link.policy.insert(frame.key, frame.nbytes)

    def _make_room(self, link: Link, nbytes: int, owner: Owner | None) -> bool:
        """Evict frames of about `nbytes`, of one owner if one is named; whether any room was made."""
        if link.policy is None:
            return False
        victims = self._victims(link, nbytes, owner)
        if not victims:
            self.index(link)
            victims = self._victims(link, nbytes, owner)
        fresh = link.contains(victims)
        kept = link.pins.among(victims, self._wall()) if link.pins is not None else set()
        doomed: list[ChunkKey] = []
        with self._ledger.lock:
            for key, answer in zip(victims, fresh, strict=True):
                entry = self._ledger.entries.get(key)
                place = entry.places.get(link.name) if entry is not None else None
                if key in kept:  # another process has pinned it
                    if not isinstance(answer, Fault):
                        link.policy.insert(key, answer.nbytes)
                elif entry is None or place is None:
                    doomed.append(key)
                elif not isinstance(answer, Fault) and answer.used > place.used + 1.0:
                    # Another process has used it since: it stays.
                    entry.places[link.name] = Place(answer.nbytes, answer.used)
                    link.policy.insert(key, answer.nbytes)
                else:
                    doomed.append(key)
        link.delete(doomed)
        with self._ledger.lock:
            for key in doomed:
                entry = self._ledger.entries.get(key)
                if entry is not None:
                    self._ledger.displaced(entry, link.name)
            link.counters.evictions += len(doomed)
        return bool(victims)

    def _victims(self, link: Link, nbytes: int, owner: Owner | None) -> list[ChunkKey]:
        victims: list[ChunkKey] = []
        freed = 0
        if link.policy is None:
            return victims
        with self._ledger.lock:
            while freed < nbytes or (owner is None and len(victims) < _EVICT_AT_ONCE):
                stays = partial(self._stays, link)
                if owner is None:
                    key = link.policy.evict(stays)
                else:
                    policy = link.policy
                    key = policy.evict_of(owner, stays) if isinstance(policy, QuotaPolicy) else None
                if key is None:
                    break
                victims.append(ChunkKey(key))
                entry = self._ledger.entries.get(ChunkKey(key))
                place = entry.places.get(link.name) if entry is not None else None
                freed += place.nbytes if place is not None else 0
        return victims

    def _stays(self, link: Link, key: bytes) -> bool:
        entry = self._ledger.entries.get(ChunkKey(key))
        return entry is not None and (entry.pinned or key in link.saving)

    def purge(self, link: Link, namespace: bytes | None) -> None:
        """Delete every frame of a namespace, or every frame, also those that others wrote."""
        doomed = [found.key for found in link.scan() if namespace in (None, namespace_of(found.key))]
        for first in range(0, len(doomed), link.settings.batch):
            link.delete(doomed[first : first + link.settings.batch])
        with self._ledger.lock:
            for key in doomed:
                if link.policy is not None:
                    link.policy.remove(key)
                entry = self._ledger.entries.get(key)
                if entry is not None:  # written again meanwhile, or found by a probe
                    self._ledger.displaced(entry, link.name)

    def index(self, link: Link) -> None:
        """Learn what a bounded tier holds: at start, and when other processes have filled it."""
        for found in link.scan():
            with self._ledger.lock:
                if found.tenant:
                    self._ledger.learn_tenant(namespace_of(found.key), found.tenant)
                entry = self._ledger.entry(found.key)
                self._ledger.placed(entry, link.name, Place(found.nbytes, found.used))
                if link.policy is not None:
                    link.policy.insert(found.key, found.nbytes)
