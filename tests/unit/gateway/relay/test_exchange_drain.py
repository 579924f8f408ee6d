"""The gateway stops while answers run."""

from __future__ import annotations

from gateway.relay.framing import LAST_CHUNK
from gateway.relay.settings import Admission, RelaySettings

from .answers import JSON_ANSWER, error, payload
from .conftest import DONE_EVENT, EVENT, Surround, Surroundings, chunked


async def test_drain_waits_for_running_answers(surround: Surround) -> None:
    s = surround()
    _, client, connection = s.streaming()
    drain = s.relay.loop.create_task(s.relay.drain())
    await _next_turn(s)
    assert not drain.done()
    connection.data_received(chunked(DONE_EVENT) + LAST_CHUNK)
    await drain
    assert s.records[0].end == "ok"


async def test_drain_ends_the_rest_with_an_error(surround: Surround) -> None:
    s = surround(RelaySettings(drain_seconds=0.01, admission=Admission(per_worker=3)), workers=1)
    _, stream, _ = s.streaming()
    _, document, connection = s.sent()
    connection.data_received(JSON_ANSWER[:-5])
    _, early, _ = s.sent()
    _, queued = s.call()
    await s.relay.drain()
    assert payload(stream).startswith(EVENT + b'data: {"error":')
    assert document.aborted
    assert (early.status, queued.status) == (503, 503)
    assert error(early)["code"] == error(queued)["code"] == "shutting_down"
    assert {r.end for r in s.records} == {"drained"}


async def _next_turn(s: Surroundings) -> None:
    turn = s.relay.loop.create_future()
    s.relay.loop.call_soon(turn.set_result, None)
    await turn
