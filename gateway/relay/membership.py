"""Which workers the gateway has: the fleet file, and over it what an administrator has changed.

Every gateway process watches the same two small files, so that a change made through one is in force in
all of them a moment later. A file that cannot be read keeps the last good state and is logged once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from engine_adapter.api import FleetFileError, WorkerInfo, read_fleet
from gateway.relay.addresses import at_address, name_of
from gateway.routing.fleet import Fleet, Worker

log = structlog.get_logger(__name__)

Version = tuple[int, int, int] | None


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What administrators changed at run time, over the fleet file."""

    drained: tuple[str, ...] = ()
    """Ids that get no new requests; what they run goes on."""
    removed: tuple[str, ...] = ()
    added: tuple[WorkerInfo, ...] = ()


class MembershipError(ValueError):
    """An administrator's change does not fit the fleet as it is."""


class Membership:
    """Keeps a fleet's membership equal to its files, and changes the overrides for all processes.

    `workers` are fixed members besides those of `fleet_file`; with neither the fleet consists of what is
    added at run time.
    """

    def __init__(
        self,
        fleet: Fleet,
        overrides_file: Path,
        *,
        fleet_file: Path | None = None,
        workers: Sequence[WorkerInfo] = (),
    ) -> None:
        self.fleet = fleet
        self.infos: dict[str, WorkerInfo] = {}
        """The members as the files describe them."""
        self.drained: frozenset[str] = frozenset()
        self._fixed = list(workers)
        self._fleet_file = fleet_file
        self._overrides_file = overrides_file
        self._listed: list[WorkerInfo] = []
        self._overrides = Overrides()
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._seen: dict[Path, Version] = {}
        self._listeners: list[Callable[[], None]] = []
        self.refresh(force=True)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """`listener` is called after every change, of members or of who is draining."""
        self._listeners.append(listener)

    def refresh(self, *, force: bool = False) -> bool:
        """Take over what changed in the files, as a timer calls it; True if anything did."""
        changed = force
        if self._fleet_file is not None and self._is_new(self._fleet_file):
            try:
                self._listed = _checked(read_fleet(self._fleet_file))
                changed = True
            except (OSError, ValueError) as error:
                _keep_last_good(self._fleet_file, error)
        if self._is_new(self._overrides_file):
            try:
                self._overrides = self._read_overrides()
                changed = True
            except (OSError, ValueError) as error:
                _keep_last_good(self._overrides_file, error)
        if changed:
            self._apply()
        return changed

    def names(self) -> set[str]:
        """Names of workers that have to be looked up, since each of their addresses is a worker."""
        return {name for info in self._named() if (name := name_of(info)) is not None}

    def know_addresses(self, name: str, addresses: tuple[str, ...]) -> None:
        """The workers called `name` are those at `addresses`, from now on."""
        self._addresses[name] = addresses
        self._apply()

    def add(self, info: WorkerInfo) -> Worker:
        """Raises MembershipError when the id is taken or the URL is not one."""

        def change(overrides: Overrides) -> Overrides:
            if info.id in self.infos:
                raise MembershipError(f"there is a worker {info.id} already")
            try:
                Worker.from_info(info)
            except ValueError as error:
                raise MembershipError(str(error)) from error
            return Overrides(
                drained=_without(overrides.drained, info.id),
                removed=_without(overrides.removed, info.id),
                added=(*(w for w in overrides.added if w.id != info.id), info),
            )

        self._change(change)
        return self.fleet.workers[info.id]

    def remove(self, worker_id: str) -> None:
        """Raises MembershipError for an unknown id. Its running requests go on; drain first to be gentle."""
        self._must_know(worker_id)
        self._change(
            lambda overrides: Overrides(
                drained=_without(overrides.drained, worker_id),
                removed=(*_without(overrides.removed, worker_id), worker_id),
                added=tuple(w for w in overrides.added if w.id != worker_id),
            )
        )

    def drain(self, worker_id: str) -> None:
        """No new requests for this worker from now on. Raises MembershipError for an unknown id."""
        self._must_know(worker_id)
        self._change(
            lambda overrides: msgspec.structs.replace(
                overrides, drained=(*_without(overrides.drained, worker_id), worker_id)
            )
        )

    def undrain(self, worker_id: str) -> None:
        """Raises MembershipError for an unknown id."""
        self._must_know(worker_id)
        self._change(
            lambda overrides: msgspec.structs.replace(
                overrides, drained=_without(overrides.drained, worker_id)
            )
        )

    def is_draining(self, worker_id: str) -> bool:
        info = self.infos.get(worker_id)
        return worker_id in self.drained or (info is not None and info.state == "draining")

    def _must_know(self, worker_id: str) -> None:
        if worker_id not in self.infos:
            raise MembershipError(f"there is no worker {worker_id}")

    def _change(self, change: Callable[[Overrides], Overrides]) -> None:
        """Read, change and replace the overrides file; a lock beside it keeps two writers apart."""
        path = self._overrides_file
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            current = self._read_overrides()
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(msgspec.json.encode(change(current)))
            temporary.replace(path)
        finally:
            os.close(lock)
        self.refresh()

    def _read_overrides(self) -> Overrides:
        try:
            overrides = msgspec.json.decode(self._overrides_file.read_bytes(), type=Overrides)
        except FileNotFoundError:
            return Overrides()
        except msgspec.DecodeError as error:
            raise FleetFileError(f"{self._overrides_file}: {error}") from error
        _checked(list(overrides.added))
        return overrides

    def _is_new(self, path: Path) -> bool:
        try:
            status = path.stat()
            version: Version = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            version = None
        if path in self._seen and self._seen[path] == version:
            return False
        self._seen[path] = version
        return True

    def _apply(self) -> None:
        members: dict[str, WorkerInfo] = {}
        for named in self._named():
            for info in self._at_each_address(named):
                if info.id not in self._overrides.removed:
                    members.setdefault(info.id, info)
        self.infos = members
        self.drained = frozenset(self._overrides.drained)
        self.fleet.update(list(members.values()))
        for listener in self._listeners:
            listener()

    def _named(self) -> list[WorkerInfo]:
        every = (*self._fixed, *self._listed, *self._overrides.added)
        return [info for info in every if info.id not in self._overrides.removed]

    def _at_each_address(self, info: WorkerInfo) -> list[WorkerInfo]:
        """The worker itself until its name was looked up: it is shown, with why it cannot be reached."""
        name = name_of(info)
        addresses = self._addresses.get(name, ()) if name is not None else ()
        return [at_address(info, name, a) for a in addresses] if name and addresses else [info]


def _without(ids: tuple[str, ...], worker_id: str) -> tuple[str, ...]:
    return tuple(i for i in ids if i != worker_id)


def _checked(infos: list[WorkerInfo]) -> list[WorkerInfo]:
    """All of them or none: a URL that is wrong must not leave the fleet half updated."""
    for info in infos:
        Worker.from_info(info)
    return infos


def _keep_last_good(path: Path, error: Exception) -> None:
    log.warning(
        "workers file cannot be used, the last good one stays in force", file=str(path), error=str(error)
    )
