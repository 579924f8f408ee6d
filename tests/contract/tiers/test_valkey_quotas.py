"""What tenants and namespaces may have in a Valkey server: kept by the server, whoever writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from valkey import Valkey

from cache.keys import ChunkKey, namespace_of
from cache.settings import LinkSettings, ValkeySettings
from cache.tiers.tier import Fault, Frame
from cache.tiers.valkey import ValkeyTier
from tests.contract.tiers.frames import Reader, deadline, frame, keys, payload

FRAME = frame(keys(1)[0], 1).nbytes
LINK = LinkSettings(timeout_seconds=60.0)


class Server:
    """Workers on one server, each with its own connection."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url, self._prefix = url, prefix
        self.client = Valkey.from_url(url)
        self._opened: list[ValkeyTier] = []

    def worker(self, ttl_seconds: int = 1000, **quotas: object) -> ValkeyTier:
        settings = ValkeySettings(self._url, ttl_seconds, self._prefix, LINK, **quotas)  # type: ignore[arg-type]
        tier = ValkeyTier(settings, lambda namespace: tenants.get(namespace, ""))
        self._opened.append(tier)
        return tier

    def there(self, wanted: list[ChunkKey]) -> list[bool]:
        return [bool(self.client.exists(self._prefix.encode() + key)) for key in wanted]

    def close(self) -> None:
        for tier in self._opened:
            tier.close()
        self.client.close()


tenants: dict[bytes, str] = {}


@pytest.fixture
def server(valkey_url: str, request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(valkey_url, f"{request.node.name}:")
    yield made
    made.close()


def frames(tenant: str, count: int, start: int = 0) -> list[Frame]:
    made = [frame(key, 1)._replace(tenant=tenant) for key in keys(count, tenant=tenant, start=start)]
    tenants[namespace_of(made[0].key)] = tenant
    return made


def names(made: list[Frame]) -> list[ChunkKey]:
    return [one.key for one in made]


def test_what_was_not_used_for_longest_makes_room_over_all_workers(server: Server) -> None:
    one, other = (server.worker(tenants={"acme": 3 * FRAME}) for _ in range(2))
    old, new, free = frames("acme", 3), frames("acme", 2, start=1000), frames("else", 5)
    assert one.put(old, deadline()) == [None] * 3
    reader = Reader()
    assert reader.read(other, names(old)[:1]) == [payload(1).tobytes()], "a use that the other worker counts"
    reader.arena.close()
    assert other.put([*new, *free], deadline()) == [None] * 7
    assert server.there(names(old)) == [True, False, False]
    assert all(server.there(names([*new, *free])))
    assert one.shares(["acme", "else"], deadline()) == {"acme": 3 * FRAME}
    assert other.used_by() == {"acme": 3 * FRAME}


def test_a_namespace_has_its_share_beside_its_tenants(server: Server) -> None:
    mine = frames("acme", 3)
    namespace = namespace_of(mine[0].key)
    worker = server.worker(namespaces={namespace.hex(): 2 * FRAME}, tenant_bytes=4 * FRAME)
    assert worker.put(mine, deadline()) == [None] * 3
    assert server.there(names(mine)) == [True, False, True], "of a prompt the end goes first"
    theirs = frames("else", 6)
    worker.put(theirs, deadline())
    assert sum(server.there(names(theirs))) == 4
    owners = [namespace, "acme", "else"]
    # What one bound has removed counts for the other until its turn comes there: too high, never too low.
    assert worker.shares(owners, deadline()) == {namespace: 2 * FRAME, "acme": 3 * FRAME, "else": 4 * FRAME}


def test_written_again_and_removed_frames_are_counted_once_and_not_at_all(server: Server) -> None:
    worker = server.worker(tenant_bytes=3 * FRAME)
    made = frames("acme", 3)
    for _ in range(2):
        assert worker.put(made, deadline()) == [None] * 3
    assert worker.shares(["acme"], deadline()) == {"acme": 3 * FRAME}
    assert worker.delete(names(made)[:2], deadline()) == [FRAME, FRAME]
    assert worker.delete(names(made)[:1], deadline()) == [Fault.ABSENT]
    assert worker.shares(["acme"], deadline()) == {"acme": FRAME}
    assert [found.key for found in worker.scan(deadline())] == names(made)[2:], "no count passes for a frame"


def test_a_frame_above_the_quota_is_refused_and_removes_nothing(server: Server) -> None:
    made = frames("acme", 1)
    wide = server.worker(tenants={"acme": 3 * FRAME})
    wide.put(made, deadline())
    narrow = server.worker(tenants={"acme": FRAME - 1})
    assert narrow.put(frames("acme", 1, start=1000), deadline()) == [Fault.QUOTA]
    by_namespace = server.worker(namespace_bytes=10)
    assert by_namespace.put(made, deadline()) == [Fault.NAMESPACE_QUOTA]
    assert server.there(names(made)) == [True]


def test_what_has_expired_is_not_counted_for_ever(server: Server) -> None:
    worker = server.worker(tenants={"acme": 3 * FRAME})
    made = frames("acme", 2)
    worker.put(made, deadline())
    for one in made:
        server.client.unlink(f"{server._prefix}".encode() + one.key)  # as the server's own eviction does
    assert worker.shares(["acme"], deadline()) == {"acme": 2 * FRAME}
    fresh = frames("acme", 3, start=1000)
    assert worker.put(fresh, deadline()) == [None] * 3
    assert all(server.there(names(fresh))), "what is gone goes first"
    impatient = server.worker(ttl_seconds=0, tenants={"acme": 3 * FRAME})
    assert impatient.put([], deadline()) == []


def test_without_quotas_nothing_is_kept_beside_the_frames(server: Server) -> None:
    worker = server.worker()
    worker.put(frames("acme", 2), deadline())
    assert len(list(server.client.scan_iter(match=f"{server._prefix}*"))) == 2
    assert worker.shares(["acme"], deadline()) == {}
