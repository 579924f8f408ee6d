"""What tenants and namespaces may have in an object store, on a real S3 server: as far as listings tell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import msgspec
import pytest

from cache.keys import ChunkKey, namespace_of
from cache.tiers.object import ObjectTier
from cache.tiers.tier import Fault, Frame
from tests.contract.tiers.conftest import object_settings
from tests.contract.tiers.frames import deadline, frame, keys

FRAME = frame(keys(1)[0], 1).nbytes
Open = Callable[..., ObjectTier]
_numbers = itertools.count()


@pytest.fixture
def open_tier(s3_endpoint: str) -> Iterator[Open]:
    """Opens the bucket as one more worker would."""
    opened: list[ObjectTier] = []
    settings = object_settings(s3_endpoint, f"quotas/{next(_numbers)}")

    def open_(listing_seconds: float = 0.0, **quotas: object) -> ObjectTier:
        tier = ObjectTier(msgspec.structs.replace(settings, listing_seconds=listing_seconds, **quotas))
        opened.append(tier)
        return tier

    yield open_
    for tier in opened:
        tier.close()


def frames(tenant: str, count: int, start: int = 0) -> list[Frame]:
    return [frame(key, 1)._replace(tenant=tenant) for key in keys(count, tenant=tenant, start=start)]


def there(tier: ObjectTier, made: list[Frame]) -> int:
    answers = tier.contains([one.key for one in made], deadline())
    return sum(not isinstance(answer, Fault) for answer in answers)


def test_what_was_written_first_makes_room_whoever_wrote_it(open_tier: Open) -> None:
    one, other = open_tier(tenants={"acme": 4 * FRAME}), open_tier(tenants={"acme": 4 * FRAME})
    old, new, free = frames("acme", 3), frames("acme", 3, start=1000), frames("else", 6)
    assert one.put(old, deadline()) == [None] * 3
    assert other.put([*new, *free], deadline()) == [None] * 9
    assert there(one, new) == 3
    assert there(one, old) == 1
    assert there(one, free) == 6
    assert one.shares(["acme"], deadline())["acme"] == 4 * FRAME
    assert other.used_by()["else"] == 6 * FRAME


def test_a_namespace_has_its_share_and_its_tenant_is_known_to_who_never_wrote_there(open_tier: Open) -> None:
    mine = frames("acme", 3)
    namespace = namespace_of(mine[0].key)
    writer = open_tier(namespaces={namespace.hex(): 2 * FRAME})
    assert writer.put(mine[:2], deadline()) == [None, None]
    assert writer.put(mine[2:], deadline()) == [None]
    assert there(writer, mine) == 2
    reader = open_tier(tenant_bytes=100 * FRAME)
    assert reader.shares([], deadline()) == {namespace: 2 * FRAME, "acme": 2 * FRAME}
    assert {found.key for found in reader.scan(deadline())} <= {one.key for one in mine}, (
        "no marker is a frame"
    )


def test_what_does_not_fit_is_refused(open_tier: Open) -> None:
    tier = open_tier(tenants={"acme": 2 * FRAME}, namespace_bytes=3 * FRAME)
    assert tier.put(frames("acme", 3), deadline()) == [None, None, Fault.QUOTA], "nothing older to remove"
    assert tier.put(frames("else", 4), deadline()) == [None, None, None, Fault.NAMESPACE_QUOTA]
    narrow = open_tier(tenant_bytes=FRAME - 1)
    assert narrow.put(frames("third", 1), deadline()) == [Fault.QUOTA]


def test_between_listings_a_worker_counts_its_own_writes_and_removals(open_tier: Open) -> None:
    tier = open_tier(listing_seconds=3600.0, tenants={"acme": 3 * FRAME})
    first, second = frames("acme", 2), frames("acme", 2, start=1000)
    assert tier.put(first, deadline()) == [None, None]
    assert tier.used_by()["acme"] == 2 * FRAME
    assert tier.delete([first[0].key], deadline()) == [FRAME]
    assert tier.used_by()["acme"] == FRAME
    assert tier.put(second, deadline()) == [None, None]
    assert there(tier, [*first, *second]) == 3
    assert tier.put(frames("acme", 1, start=2000), deadline()) == [None]
    assert there(tier, [*first, *second]) == 2
    stranger = open_tier(listing_seconds=3600.0, tenants={"acme": 3 * FRAME})
    stranger.put(frames("acme", 1, start=3000), deadline())
    assert tier.used_by()["acme"] == 3 * FRAME, "not heard of yet"


def test_a_long_listing_is_taken_up_where_it_stopped(open_tier: Open) -> None:
    writer = open_tier()
    wanted: list[ChunkKey] = []
    for tenant in ("a", "b", "c"):
        made = frames(tenant, 3)
        writer.put(made, deadline())
        wanted += [one.key for one in made]
    tier = open_tier(tenant_bytes=100 * FRAME)
    middle = sorted(tier._path(key) for key in wanted)[3]
    for found in writer.scan(deadline()):
        path = tier._path(found.key)
        if path <= middle:
            tier._shares.listing.saw(path, "", found.key, found.nbytes, found.used)
    tier._shares.listing.reached = middle
    assert tier.shares([], deadline())[""] == 9 * FRAME, "each object once, nobody's for want of a marker"
