"""A tenant's bound on files: over all processes, kept over restarts, at nobody else's expense."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.arena import SLOT_HEADER
from cache.keys import namespace_of
from cache.settings import FileSettings, LinkSettings, MemorySettings, Quotas, StoreSettings
from cache.store import Store
from cache.tiers.build import TierPlan
from cache.tiers.file import FileTier
from cache.tiers.tier import Fault, Frame
from tests.contract.tiers.frames import CHUNK_BYTES, deadline, frame, keys
from tests.unit.cache.stores import CHUNK_BYTES as STORE_CHUNK
from tests.unit.cache.stores import LAYOUT, Bench, Jobs

FRAME = CHUNK_BYTES + 512
QUOTA = 3 * FRAME
STORE_FRAME = STORE_CHUNK + 512
Open = Callable[[], FileTier]
_closed: list[FileTier] = []


def close(tier: FileTier) -> None:
    """As when its process ends."""
    tier.close()
    _closed.append(tier)


@pytest.fixture
def open_tier(tmp_path: Path) -> Iterator[Open]:
    """Opens the directory as one more process would."""
    opened: list[FileTier] = []

    def open_() -> FileTier:
        tier = FileTier(str(tmp_path / "kv"), 100 * FRAME, quotas=Quotas(tenants={"acme": QUOTA}))
        opened.append(tier)
        return tier

    yield open_
    for tier in opened:
        if tier not in _closed:
            close(tier)


def frames(tenant: str, count: int, start: int = 0) -> list[Frame]:
    return [frame(key, 1)._replace(tenant=tenant) for key in keys(count, tenant=tenant, start=start)]


def tenants(tier: FileTier) -> dict[str, int]:
    return {owner: used for owner, used in tier.used_by().items() if isinstance(owner, str)}


def test_who_has_its_share_is_refused_and_others_are_not(open_tier: Open) -> None:
    one, other = open_tier(), open_tier()
    assert one.put(frames("acme", 2), deadline()) == [None, None]
    mixed = [*frames("acme", 2, start=1000), *frames("", 1), *frames("else", 1)]
    assert other.put(mixed, deadline()) == [None, Fault.QUOTA, None, None]
    assert one.used_by() == other.used_by()
    assert tenants(one) == {"acme": 3 * FRAME, "": FRAME, "else": FRAME}
    assert one.used() == 5 * FRAME


def test_a_namespace_has_its_share_beside_its_tenants(tmp_path: Path) -> None:
    mine, theirs = frames("acme", 4), frames("else", 4)
    namespace = namespace_of(mine[0].key)
    quotas = Quotas(namespaces={namespace.hex(): 2 * FRAME}, tenant_bytes=3 * FRAME)
    one = FileTier(str(tmp_path / "kv"), 100 * FRAME, quotas=quotas)
    other = FileTier(str(tmp_path / "kv"), 100 * FRAME, quotas=quotas)
    assert one.put(mine[:1], deadline()) == [None]
    assert other.put(mine[1:], deadline()) == [None, Fault.NAMESPACE_QUOTA, Fault.NAMESPACE_QUOTA]
    assert other.put(theirs, deadline()) == [None] * 3 + [Fault.QUOTA]
    assert one.used_by()[namespace] == 2 * FRAME
    assert one.used_by()[namespace_of(theirs[0].key)] == 3 * FRAME
    close(one)
    close(other)
    again = FileTier(str(tmp_path / "kv"), 100 * FRAME, quotas=quotas)
    assert again.used_by()[namespace] == 2 * FRAME, "counted anew by whoever opens the directory alone"
    assert again.put(mine[2:3], deadline()) == [Fault.NAMESPACE_QUOTA]
    again.delete([mine[0].key], deadline())
    assert again.put(mine[2:3], deadline()) == [None]
    close(again)


def test_what_is_removed_or_replaced_makes_room(open_tier: Open) -> None:
    tier = open_tier()
    first = frames("acme", 3)
    tier.put(first, deadline())
    assert tier.put(first[:1], deadline()) == [Fault.QUOTA], "counted before it is known to replace"
    tier.delete([first[0].key, first[1].key], deadline())
    assert tier.put(first[:2], deadline()) == [None, None]
    assert tenants(tier) == {"acme": 3 * FRAME}
    tier.delete([one.key for one in first], deadline())
    assert tier.used_by() == {}


def test_who_opens_the_directory_alone_counts_again(open_tier: Open, tmp_path: Path) -> None:
    tier = open_tier()
    tier.put([*frames("acme", 3), *frames("", 1)], deadline())
    close(tier)
    shutil.rmtree(tmp_path / "kv" / "shares")
    again = open_tier()
    assert tenants(again) == {"acme": 3 * FRAME, "": FRAME}
    assert again.put(frames("acme", 1, start=1000), deadline()) == [Fault.QUOTA]
    assert {found.tenant for found in again.scan(deadline())} == {"acme", ""}


class FileBench(Bench):
    """A store over files, whose deadlines are of the real clock; transfers run when the test says so."""

    def __init__(self, directory: Path, **quotas: Any) -> None:
        quotas = quotas or {"tenants": {"acme": 4 * STORE_FRAME}}
        settings = FileSettings(str(directory), 100 * STORE_FRAME, **quotas)
        tier = FileTier(settings.path, settings.bytes, quotas=settings)
        memory = MemorySettings(bytes=32 * (STORE_CHUNK + SLOT_HEADER), prefault=False)
        self.jobs = Jobs()
        self.store = Store(
            LAYOUT,
            StoreSettings(memory=memory),
            tiers=[TierPlan(tier, LinkSettings(batch=4, timeout_seconds=60.0), quotas=settings)],
            make_lane=self.jobs.lane,
        )


def in_files(bench: FileBench, tenant: str) -> int:
    bench.jobs.run()
    return sum("file" in chunk.tiers for chunk in bench.store.inventory.chunks() if chunk.tenant == tenant)


def test_a_store_evicts_a_tenants_own_files(tmp_path: Path) -> None:
    one = FileBench(tmp_path / "kv")
    one.save(one.keys(6, start=5000))
    for start in (0, 1000, 2000):
        one.save(one.keys(3, start=start, tenant="acme"))
        one.jobs.run()
    assert in_files(one, "acme") <= 4
    assert in_files(one, "") == 6
    newest = one.keys(3, start=2000, tenant="acme")
    assert one.store._links["file"].contains(newest)[0] is not Fault.ABSENT
    assert one.store.stats().tiers["file"].tenants["acme"] <= 4 * STORE_FRAME
    one.store.close()


def test_what_was_there_before_a_restart_counts_and_can_be_evicted(tmp_path: Path) -> None:
    before = FileBench(tmp_path / "kv")
    before.save(before.keys(4, tenant="acme"))
    assert in_files(before, "acme") == 4
    before.store.close()
    after = FileBench(tmp_path / "kv")
    assert in_files(after, "acme") == 4, "known to be theirs before anybody has asked for them"
    assert after.store.stats().tiers["file"].tenants == {"acme": 4 * STORE_FRAME}
    newer = after.keys(3, start=9000, tenant="acme")
    after.save(newer)
    assert in_files(after, "acme") <= 4
    assert all(not isinstance(found, Fault) for found in after.store._links["file"].contains(newer))
    after.store.close()


def test_a_store_evicts_a_namespaces_own_files(tmp_path: Path) -> None:
    bench = FileBench(tmp_path / "kv", namespace_bytes=4 * STORE_FRAME, tenant_bytes=6 * STORE_FRAME)
    exact, small = bench.keys(4, tenant="acme"), bench.keys(3, tenant="acme", kind="small")
    bench.save(exact)
    bench.jobs.run()
    bench.save(bench.keys(2, start=1000, tenant="acme"))
    assert in_files(bench, "acme") == 4, "the namespace is full, its tenant is not"
    bench.save(small)
    assert in_files(bench, "acme") <= 6
    assert bench.store._links["file"].contains(small)[0] is not Fault.ABSENT
    bench.store.close()
