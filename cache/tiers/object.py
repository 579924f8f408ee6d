"""Frames as objects in an S3-compatible store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from cache.keys import KEY_BYTES, NAMESPACE_BYTES, ChunkKey
from cache.settings import ObjectSettings, Owner
from cache.tiers.object_shares import ObjectShares
from cache.tiers.tier import Fault, Found, Frame, Landing, deliver

_SUFFIX = ".kv"
_NAMESPACE_DIGITS = 2 * NAMESPACE_BYTES

T = TypeVar("T")
A = TypeVar("A")


class ObjectTier:
    """`<prefix>/<namespace>/<hash>.kv`, one object per frame, a batch of requests at once.

    Puts are atomic by S3's own rules. The bucket's life-cycle rules bound it; what tenants and namespaces may
    have of it, see `cache.tiers.object_shares`. Credentials and region come from the AWS_* environment unless
    set.
    """

    name = "s3"
    shared = True
    capacity = None

    def __init__(self, settings: ObjectSettings) -> None:
        """Connects when first used. Raises ValueError for a URL that is not `s3://bucket[/prefix]`."""
        parts = urlsplit(settings.url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"an object store's URL is s3://bucket/prefix, not {settings.url!r}")
        self._prefix = parts.path.strip("/")
        options: dict[str, Any] = {"timeout": timedelta(seconds=settings.link.timeout_seconds)}
        config: dict[str, Any] = {}
        if settings.endpoint is not None:
            config["endpoint"] = settings.endpoint
            options["allow_http"] = settings.endpoint.startswith("http://")
        if settings.region is not None:
            config["region"] = settings.region
        self._store = S3Store(
            parts.netloc,
            client_options=options,  # type: ignore[arg-type]
            # Stores answer 503 under load as a matter of course; more is for the circuit breaker to decide.
            retry_config={
                "max_retries": 2,
                "retry_timeout": timedelta(seconds=settings.link.timeout_seconds),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=20),
                    "max_backoff": timedelta(milliseconds=200),
                    "base": 3,
                },
            },
            **config,
        )
        self._loops = _Loops()
        self._shares = ObjectShares(settings, settings.listing_seconds)
        self._listing = threading.Lock()

    def used(self) -> int:
        return 0

    def used_by(self) -> Mapping[Owner, int]:
        return self._shares.used() if self._shares.bound else {}

    def shares(self, owners: Iterable[Owner], deadline: float) -> Mapping[Owner, int]:
        """See `Accounting`."""
        if self._shares.bound:
            self._list(deadline)
        return self.used_by()

    def get(self, keys: Sequence[ChunkKey], landing: Landing, deadline: float) -> list[Fault | None]:
        async def one(key: ChunkKey) -> memoryview:
            result = await obstore.get_async(self._store, self._path(key))
            return memoryview(await result.bytes_async())

        answers = self._ask(one, keys, deadline)
        return [
            answer if isinstance(answer, Fault) else deliver(landing, number, answer)
            for number, answer in enumerate(answers)
        ]

    def put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        if not self._shares.bound:
            return self._put(frames, deadline)
        self._list((time.monotonic() + deadline) / 2)
        with self._listing:
            doomed, answers = self._shares.admit(frames)
        self._remove(doomed, deadline)
        admitted = [frame for frame, refused in zip(frames, answers, strict=True) if refused is None]
        self._mark(admitted, deadline)
        outcome = iter(self._put(admitted, deadline))
        with self._listing:
            for number, frame in enumerate(frames):
                if answers[number] is not None:
                    continue
                answers[number] = next(outcome)
                if answers[number] is None:
                    self._shares.wrote(frame, time.time())
                else:
                    self._shares.lost(frame)
        return answers

    def delete(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        answers = self._remove(keys, deadline)
        if self._shares.bound:
            with self._listing:
                for key, size in zip(keys, answers, strict=True):
                    if not isinstance(size, Fault):
                        self._shares.removed(key, size)
        return answers

    def contains(self, keys: Sequence[ChunkKey], deadline: float) -> list[Found | Fault]:
        async def one(key: ChunkKey) -> Found:
            meta = await obstore.head_async(self._store, self._path(key))
            return Found(key, meta["size"], meta["last_modified"].timestamp())

        return self._ask(one, keys, deadline)

    def scan(self, deadline: float) -> Iterator[Found]:
        try:
            for page in obstore.list(self._store, self._prefix or None):
                for meta in page:
                    if time.monotonic() >= deadline:
                        return
                    key = _key(self._name(meta["path"]))
                    if key is not None:
                        yield Found(key, meta["size"], meta["last_modified"].timestamp())
        except (obstore.exceptions.BaseError, OSError):
            return

    def close(self) -> None:
        self._loops.close()

    def _put(self, frames: Sequence[Frame], deadline: float) -> list[Fault | None]:
        async def one(frame: Frame) -> None:
            body = b"".join((frame.head, frame.payload.data))
            await obstore.put_async(self._store, self._path(frame.key), body, use_multipart=False)

        answers = self._ask(one, frames, deadline)
        # To put where nothing can be found means that there is no such bucket.
        return [Fault.GONE if answer is Fault.ABSENT else answer for answer in answers]

    def _remove(self, keys: Sequence[ChunkKey], deadline: float) -> list[int | Fault]:
        async def one(key: ChunkKey) -> int:
            path = self._path(key)
            size = (await obstore.head_async(self._store, path))["size"]
            await obstore.delete_async(self._store, path)
            return size

        return self._ask(one, keys, deadline)

    def _mark(self, frames: Sequence[Frame], deadline: float) -> None:
        """Say whose the namespaces of frames are, where nobody has yet."""

        async def one(name: str) -> None:
            await obstore.put_async(self._store, self._below(name), b"", use_multipart=False)

        names = {name for frame in frames if (name := self._shares.marker(frame)) is not None}
        self._ask(one, sorted(names), deadline)

    def _list(self, deadline: float) -> None:
        """Learn what the bucket holds, if that is due; one that takes too long is taken up next time."""
        shares = self._shares
        with self._listing:
            if not shares.is_due(time.monotonic()):
                return
            try:
                for page in obstore.list(
                    self._store, self._prefix or None, offset=shares.listing.reached, chunk_size=1000
                ):
                    for meta in page:
                        name = self._name(meta["path"])
                        modified = meta["last_modified"].timestamp()
                        shares.listing.saw(meta["path"], name, _key(name), meta["size"], modified)
                    if time.monotonic() >= deadline:
                        return
            except (obstore.exceptions.BaseError, OSError):
                return
            shares.listed(time.monotonic())

    def _path(self, key: ChunkKey) -> str:
        name = key.hex()
        return self._below(f"{name[:_NAMESPACE_DIGITS]}/{name[_NAMESPACE_DIGITS:]}{_SUFFIX}")

    def _below(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _name(self, path: str) -> str:
        """What an object is called below the prefix."""
        return path[len(self._prefix) + 1 :] if self._prefix else path

    def _ask(self, one: Callable[[A], Awaitable[T]], items: Sequence[A], deadline: float) -> list[T | Fault]:
        """Do `one` for all items at once; a Fault for each that failed or took too long."""

        async def guarded(item: A) -> T | Fault:
            try:
                return await asyncio.wait_for(one(item), deadline - time.monotonic())
            except (obstore.exceptions.BaseError, OSError) as error:  # TimeoutError is an OSError
                return _fault(error)

        async def together() -> list[T | Fault]:
            return list(await asyncio.gather(*(guarded(item) for item in items)))

        if time.monotonic() >= deadline:
            return [Fault.TIMEOUT] * len(items)
        answers: list[T | Fault] = self._loops.run(together())
        return answers


class _Loops:
    """An event loop for each thread that asks: the store's two lanes."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._all: list[asyncio.Runner] = []

    def run(self, work: Any) -> Any:
        runner = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = asyncio.Runner()
            self._all.append(runner)
        return runner.run(work)

    def close(self) -> None:
        for runner in self._all:
            runner.close()
        self._all.clear()


def _key(name: str) -> ChunkKey | None:
    try:
        key = ChunkKey(bytes.fromhex(name.removesuffix(_SUFFIX).replace("/", "")))
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _fault(error: Exception) -> Fault:
    if isinstance(error, FileNotFoundError):
        return Fault.ABSENT
    if isinstance(error, TimeoutError):
        return Fault.TIMEOUT
    if isinstance(error, obstore.exceptions.PermissionDeniedError | obstore.exceptions.UnauthenticatedError):
        return Fault.GONE
    # The library has one class for all else, and its text goes on to print the retry settings.
    text = str(error).partition("Debug source")[0].lower()
    if "timed out" in text or "timeout" in text:
        return Fault.TIMEOUT
    return Fault.GONE if "error sending request" in text or "connect" in text else Fault.IO
