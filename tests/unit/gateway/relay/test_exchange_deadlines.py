"""Every phase has its limit, and none may be taken for another."""

from __future__ import annotations

import pytest

from gateway.relay.settings import RelaySettings, Timeouts
from gateway.relay.states import ROUTED

from .answers import JSON_ANSWER, error, payload
from .conftest import EVENT, STREAM_HEAD, Surround, chunked


async def test_connect_timeout_goes_elsewhere_and_then_is_told(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(connect=2)))
    _, client = s.call()
    s.sweep(2.1)
    assert s.pool.openings[0].cancelled
    assert dict(s.relay.accounting.retries) == {"timeout": 1}
    s.sweep(2.1)
    assert client.status == 504
    assert "did not accept a connection in 2 s" in str(error(client)["message"])
    assert s.records[0].end == "timeout_connect"


async def test_first_byte_timeout(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(first_byte=5)))
    _, client, connection = s.sent()
    s.sweep(5.1)
    assert client.status == 504
    assert error(client)["code"] == "worker_timeout"
    assert connection.transport.aborted
    assert s.records[0].end == "timeout_first_byte"


async def test_silence_inside_a_stream(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(silence=5), ping_seconds=0))
    _, client, connection = s.streaming()
    s.sweep(4)
    connection.data_received(chunked(EVENT))
    s.sweep(4)
    assert not client.is_over
    s.sweep(1.1)
    assert client.kept_alive is False
    assert connection.transport.aborted
    assert b"data: [DONE]" not in client.written
    assert payload(client).startswith(EVENT * 2 + b'data: {"error":')
    assert s.records[0].end == "timeout_silence"
    assert s.records[0].status == 200


async def test_silence_inside_a_document_cuts_the_connection(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(silence=5)))
    _, client, connection = s.sent()
    connection.data_received(JSON_ANSWER[:-5])
    s.sweep(5.1)
    assert client.aborted
    assert s.records[0].end == "timeout_silence"


async def test_no_limit_on_the_total_and_none_where_zero(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(0, 0, 0, 0, 0), ping_seconds=0))
    exchange, client = s.call()
    s.sweep(1e6)
    connection = s.pool.openings[0].succeed()
    s.sweep(1e6)
    connection.data_received(STREAM_HEAD + chunked(EVENT))
    s.sweep(1e6)
    exchange.client_paused()
    s.sweep(1e6)
    assert not client.is_over


async def test_limits_of_one_request(surround: Surround) -> None:
    s = surround()
    _, client, _ = s.sent(headers=[(b"x-sluice-timeout-first-byte", b"1")])
    s.sweep(1.1)
    assert client.status == 504


@pytest.mark.parametrize("header", [b"x-sluice-timeout-first-byte", b"x-sluice-timeout-connect"])
async def test_an_impatient_client_does_not_discredit_a_worker(surround: Surround, header: bytes) -> None:
    s = surround(workers=1)
    for _ in range(10):
        exchange, client = s.call(headers=[(header, b"0.01")])
        if header.endswith(b"first-byte") and exchange.state is ROUTED:
            s.pool.openings[-1].succeed()
        s.sweep(0.1)
        assert client.status == 504
    assert s.worker(0).breaker == "closed"


@pytest.mark.parametrize("limits", [Timeouts(first_byte=1), Timeouts(connect=1)])
async def test_the_operators_limits_count_against_a_worker(surround: Surround, limits: Timeouts) -> None:
    s = surround(RelaySettings(timeouts=limits), workers=1)
    for _ in range(3):
        s.call()
        if limits.first_byte == 1:
            s.pool.openings[-1].succeed()
        s.sweep(1.1)
    assert s.worker(0).breaker == "open"


async def test_a_broken_exchange_does_not_stop_the_sweep(surround: Surround) -> None:
    s = surround(RelaySettings(timeouts=Timeouts(first_byte=5)))
    _, broken, _ = s.sent()
    _, other, _ = s.sent()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    broken.answered = fail  # type: ignore[method-assign]
    s.sweep(5.1)
    assert other.status == 504
    assert broken.aborted
    s.assert_quiet()
