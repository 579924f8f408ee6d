from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine_adapter.api import WorkerInfo
from gateway.relay.pool import IDLE_SECONDS, Pool
from gateway.relay.upstream import UpstreamConnection
from gateway.routing.fleet import Fleet, Worker


class Transport:
    aborted = closed = False

    def write(self, data: bytes) -> None:
        raise AssertionError(data)

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool(asyncio.get_running_loop(), 1000)
    yield pool
    pool.close()


@pytest.fixture
def fleet(pool: Pool) -> Fleet:
    fleet = Fleet()
    fleet.subscribe(pool.forget)
    fleet.update([WorkerInfo("w0", "http://127.0.0.1:9000"), WorkerInfo("w1", "http://127.0.0.1:9001")])
    return fleet


def connection_to(worker: Worker) -> UpstreamConnection:
    connection = UpstreamConnection(worker, 1000)
    connection.connection_made(Transport())  # type: ignore[arg-type]
    return connection


def aborted(connection: UpstreamConnection) -> bool:
    return bool(connection.transport.aborted)  # type: ignore[attr-defined]


async def test_the_last_one_given_back_goes_first(pool: Pool, fleet: Fleet) -> None:
    w0, w1 = fleet
    first, second, other = connection_to(w0), connection_to(w0), connection_to(w1)
    for connection in (first, second, other):
        pool.give_back(connection, 0.0)
    assert [pool.take(w0), pool.take(w0), pool.take(w0)] == [second, first, None]
    assert pool.take(w1) is other


async def test_dead_ones_are_skipped(pool: Pool, fleet: Fleet) -> None:
    w0, _ = fleet
    good, dead = connection_to(w0), connection_to(w0)
    pool.give_back(good, 0.0)
    pool.give_back(dead, 0.0)
    dead.connection_lost(None)
    assert pool.take(w0) is good


async def test_one_that_may_not_be_reused_is_closed(pool: Pool, fleet: Fleet) -> None:
    w0, _ = fleet
    connection = connection_to(w0)
    connection.alive = False
    pool.give_back(connection, 0.0)
    assert connection.transport.closed  # type: ignore[attr-defined]
    assert pool.take(w0) is None


async def test_idle_ones_are_closed_after_a_while(pool: Pool, fleet: Fleet) -> None:
    w0, _ = fleet
    old, young = connection_to(w0), connection_to(w0)
    pool.give_back(old, 0.0)
    pool.give_back(young, 50.0)
    pool.sweep(IDLE_SECONDS + 1)
    assert aborted(old)
    assert not aborted(young)
    pool.sweep(50.0 + IDLE_SECONDS + 1)
    assert aborted(young)
    assert not pool._idle


async def test_a_restarted_worker_knows_no_old_connection(pool: Pool, fleet: Fleet) -> None:
    w0, _ = fleet
    idle, busy = connection_to(w0), connection_to(w0)
    pool.give_back(idle, 0.0)
    fleet.update(
        [WorkerInfo("w0", "http://127.0.0.1:9000", generation=1), WorkerInfo("w1", "http://127.0.0.1:9001")]
    )
    assert aborted(idle)
    pool.give_back(busy, 0.0)
    assert pool.take(w0) is None
    assert aborted(busy)


async def test_a_worker_that_moved_does_not_inherit_connections(pool: Pool, fleet: Fleet) -> None:
    old = fleet.workers["w0"]
    busy = connection_to(old)
    fleet.update([WorkerInfo("w0", "http://127.0.0.1:9999"), WorkerInfo("w1", "http://127.0.0.1:9001")])
    pool.give_back(busy, 0.0)
    moved = fleet.workers["w0"]
    assert moved is not old
    assert pool.take(moved) is None


async def test_nobody_listens(pool: Pool, fleet: Fleet, unused_tcp_port: int) -> None:
    worker = Worker.from_info(WorkerInfo("w9", f"http://127.0.0.1:{unused_tcp_port}"))
    result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    await pool.open(worker, result.set_result)
    assert isinstance(result.result(), ConnectionRefusedError)


async def test_opening_can_be_cancelled(pool: Pool) -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    worker = Worker.from_info(WorkerInfo("w9", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    task = pool.open(worker, lambda result: pytest.fail("called after it was cancelled"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.close()
    await server.wait_closed()
