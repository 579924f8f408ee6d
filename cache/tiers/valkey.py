"""Frames in a Valkey or Redis server, which machines may share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import valkey
from valkey.backoff import NoBackoff
from valkey.retry import Retry

from cache.keys import KEY_BYTES, ChunkKey
from cache.settings import Owner, ValkeySettings
from cache.tiers.tier import Fault, Found, Frame, Landing, deliver
from cache.tiers.valkey_shares import Command, ValkeyShares

_SCAN_COUNT = 1000
_READ_BYTES = 1 << 20
"""Per system call: a frame has hundreds of kilobytes."""


class ValkeyTier:
    """One string per frame under `<prefix><key>`; every read renews its time to live.

    The server's `maxmemory` and eviction policy bound it; what tenants and namespaces may have of it, see
    `cache.tiers.valkey_shares`. Batches are pipelined.
    """

    name = "valkey"
    shared = True
    capacity = None

    def __init__(
        self, settings: ValkeySettings, tenant_of: Callable[[bytes], str] = lambda namespace: ""
    ) -> None:
        """Connects when first used. `tenant_of` a namespace. Raises ValueError for a URL that is none."""
        self._prefix = settings.prefix.encode()
        self._ttl_ms = 1000 * settings.ttl_seconds
        self._shares = ValkeyShares(self._prefix, settings, tenant_of, self._ttl_ms)
        self._client = valkey.Valkey.from_url(
            settings.url,
            socket_timeout=settings.link.timeout_seconds,
            socket_connect_timeout=settings.link.timeout_seconds,
            socket_read_size=_READ_BYTES,
            # The store's circuit breaker decides about trying again.
            retry=Retry(NoBackoff(), 0),
        )

    def used(self) -> int:
        return 0

    def used_by(self) -> Mapping[Owner, int]:
        return self._shares.heard

    def shares(self, owners: Iterable[Owner], deadline: float) -> Mapping[Owner, int]:
        """See `Accounting`."""
        limited = self._shares.limited(owners)
        answers = self._ask([self._shares.count(owner) for owner in limited], deadline) if limited else []
        for owner, answer in zip(limited, answers, strict=True):
            if not isinstance(answer, Fault):
                self._shares.heard[owner] = int(answer or 0)
        return self._shares.heard

    def get(self, keys: Sequence[ChunkKey], landing: Landing, deadline: float) -> list[Fault | None]:
        commands: list[Command] = [("GETEX", self._name(key), "PX", self._ttl_ms) for key in keys]
        if self._shares.bound:
            commands += [
                told
                for number, key in enumerate(keys)
                for told in self._shares.used(self._name(key), key, number)
            ]
        answers = self._ask(commands, deadline)[: len(keys)]
        return [self._land(landing, number, answer) for number, answer in enumerate(answers)]

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        commands = [self._put(frame, number) for number, frame in enumerate(frames)]
        answers = self._ask(commands, deadline)
        return [
            answer
            if isinstance(answer, Fault)
            else self._shares.told(frame.key, frame.tenant, answer)
            if self._shares.bound
            else None
            for frame, answer in zip(frames, answers, strict=True)
        ]

    def delete(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        if self._shares.bound:
            sizes = self._ask([self._shares.remove(self._name(key), key) for key in keys], deadline)
            return [size or Fault.ABSENT for size in sizes]
        names = [self._name(key) for key in keys]
        answers = self._ask(
            [("STRLEN", name) for name in names] + [("UNLINK", name) for name in names], deadline
        )
        return [
            gone if isinstance(gone, Fault) else size if gone else Fault.ABSENT
            for size, gone in zip(answers[: len(keys)], answers[len(keys) :], strict=True)
        ]

    def contains(self, keys: Sequence[ChunkKey], deadline: float) -> list[Found | Fault]:
        answers = self._ask([("STRLEN", self._name(key)) for key in keys], deadline)
        return [
            size if isinstance(size, Fault) else Found(key, size, 0.0) if size else Fault.ABSENT
            for key, size in zip(keys, answers, strict=True)
        ]

    def scan(self, deadline: float) -> Iterator[Found]:
        pattern = b"".join(b"\\" + bytes([c]) if c in b"*?[]^\\" else bytes([c]) for c in self._prefix) + b"*"
        try:
            for name in self._client.scan_iter(match=pattern, count=_SCAN_COUNT):
                if time.monotonic() >= deadline:
                    return
                key = ChunkKey(name[len(self._prefix) :])
                if len(key) == KEY_BYTES:
                    size = self._client.execute_command("STRLEN", name)  # type: ignore[no-untyped-call]
                    yield Found(key, size, 0.0)
        except valkey.ValkeyError:
            return

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def _name(self, key: ChunkKey) -> bytes:
        return self._prefix + key

    def _put(self, frame: Frame, number: int) -> Command:
        name, content = self._name(frame.key), b"".join((frame.head, frame.payload.data))
        if self._shares.bound:
            return self._shares.set(name, frame.key, frame.tenant, content, number)
        return ("SET", name, content, "PX", self._ttl_ms)

    def _ask(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """The answers of pipelined commands, a Fault for each that failed."""
        if time.monotonic() >= deadline:
            return [Fault.TIMEOUT] * len(commands)
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)  # type: ignore[no-untyped-call]
                answers = pipe.execute(raise_on_error=False)  # type: ignore[no-untyped-call]
        except (valkey.ValkeyError, OSError) as error:
            return [_fault(error)] * len(commands)
        return [_fault(answer) if isinstance(answer, Exception) else answer for answer in answers]

    @staticmethod
    def _land(landing: Landing, number: int, answer: Any) -> Fault | None:
        if answer is None:
            return Fault.ABSENT
        if isinstance(answer, Fault):
            return answer
        return deliver(landing, number, memoryview(answer))


def _fault(error: Exception) -> Fault:
    if isinstance(error, valkey.TimeoutError | TimeoutError):
        return Fault.TIMEOUT
    if isinstance(error, valkey.exceptions.OutOfMemoryError):
        return Fault.FULL
    if isinstance(error, valkey.ConnectionError | OSError):
        return Fault.GONE
    return Fault.IO
