"""A name with several addresses is several workers, which come and go with its addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine_adapter.api import WorkerInfo
from gateway.relay.addresses import AddressWatcher, at_address, name_of, resolve
from gateway.relay.membership import Membership, MembershipError
from gateway.routing.fleet import Fleet, Worker

NAMED = WorkerInfo("remote-0", "http://pool.test:8000/base", every_address=True)


class Names:
    """A name server that a test writes to, and an event for every question."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers: dict[str, Sequence[str]] = {f"{name}.test": a for name, a in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if name not in self.answers:
            raise socket.gaierror(-2, "Name or service not known")
        return self.answers[name]


@pytest.fixture
def membership(tmp_path: Path) -> Membership:
    return Membership(
        Fleet(), tmp_path / "overrides.json", workers=[NAMED, WorkerInfo("w1", "http://other.test:1")]
    )


def watcher(membership: Membership, names: Names) -> AddressWatcher:
    return AddressWatcher(membership.names, membership.know_addresses, 3600.0, names)


async def test_each_address_is_a_worker(membership: Membership) -> None:
    names = Names(pool=["10.0.0.1", "10.0.0.2"])
    async with watcher(membership, names):
        workers = membership.fleet.workers
        assert set(workers) == {"remote-0@10.0.0.1", "remote-0@10.0.0.2", "w1"}
        assert names.asked == ["pool.test"]
        first = workers["remote-0@10.0.0.1"]
    assert (first.url, first.host, first.port) == ("http://10.0.0.1:8000/base", "10.0.0.1", 8000)
    assert (first.authority, first.server_name) == (b"pool.test:8000", "pool.test")


async def test_addresses_that_stay_keep_their_worker(membership: Membership) -> None:
    names = Names(pool=["10.0.0.1", "10.0.0.2"])
    told: list[tuple[str, str]] = []
    async with watcher(membership, names) as watching:
        stays = membership.fleet.workers["remote-0@10.0.0.2"]
        membership.fleet.subscribe(lambda event, worker: told.append((event, worker.id)))
        names.answers["pool.test"] = ["10.0.0.2", "10.0.0.3"]
        await watching.look_up()
        assert told == [("left", "remote-0@10.0.0.1"), ("joined", "remote-0@10.0.0.3")]
        assert membership.fleet.workers["remote-0@10.0.0.2"] is stays
        await watching.look_up()
        assert len(told) == 2


async def test_a_name_that_is_not_known_is_a_worker_that_does_not_answer(membership: Membership) -> None:
    names = Names()
    async with watcher(membership, names) as watching:
        assert set(membership.fleet.workers) == {"remote-0", "w1"}
        names.answers["pool.test"] = ["10.0.0.1"]
        await watching.look_up()
        assert set(membership.fleet.workers) == {"remote-0@10.0.0.1", "w1"}
        del names.answers["pool.test"]
        await watching.look_up()
        assert set(membership.fleet.workers) == {"remote-0@10.0.0.1", "w1"}


async def test_one_of_several_may_be_drained_or_removed(membership: Membership) -> None:
    names = Names(pool=["10.0.0.1", "10.0.0.2"])
    async with watcher(membership, names):
        membership.drain("remote-0@10.0.0.1")
        assert membership.is_draining("remote-0@10.0.0.1")
        membership.remove("remote-0@10.0.0.2")
        assert set(membership.fleet.workers) == {"remote-0@10.0.0.1", "w1"}
        with pytest.raises(MembershipError):
            membership.drain("remote-0")


async def test_names_are_looked_up_again_by_themselves(membership: Membership) -> None:
    names = Names(pool=["10.0.0.1"])
    joined = asyncio.Event()
    membership.fleet.subscribe(lambda event, worker: joined.set() if worker.host == "10.0.0.9" else None)
    async with AddressWatcher(membership.names, membership.know_addresses, 0.01, names), asyncio.timeout(60):
        names.answers["pool.test"] = ["10.0.0.9"]
        await joined.wait()
    assert set(membership.fleet.workers) == {"remote-0@10.0.0.9", "w1"}


@pytest.mark.parametrize(
    ("url", "every", "name"),
    [
        ("http://pool.test:1", True, "pool.test"),
        ("http://pool.test:1", False, None),
        ("http://10.0.0.1:1", True, None),
        ("http://[::1]:1", True, None),
        ("http://localhost:1", True, None),
    ],
)
def test_what_is_looked_up(url: str, every: bool, name: str | None) -> None:
    assert name_of(WorkerInfo("w", url, every_address=every)) == name


def test_tls_asks_for_the_name_and_ipv6_has_brackets() -> None:
    info = at_address(WorkerInfo("w", "https://pool.test"), "pool.test", "fd00::1")
    worker = Worker.from_info(info)
    assert (worker.id, worker.url, worker.host, worker.port) == (
        "w@fd00::1",
        "https://[fd00::1]",
        "fd00::1",
        443,
    )
    assert (worker.authority, worker.server_name, worker.tls) == (b"pool.test", "pool.test", True)


async def test_the_systems_resolver_gives_each_address_once() -> None:
    assert await resolve("127.0.0.7") == ["127.0.0.7"]
    with pytest.raises(OSError, match="."):
        await resolve("name.invalid")
