"""Each fault as the client sees it, byte by byte, and as the engine counts it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from engine_adapter.fake import FakeEngine, Fault, Phase, Timing

if TYPE_CHECKING:
    from conftest import RawClient

StartEngine = Callable[..., Awaitable[FakeEngine]]
Connect = Callable[[FakeEngine], "Awaitable[RawClient]"]

CHAT = "/v1/chat/completions"
END = b"0\r\n\r\n"


@pytest.fixture
def body(chat_body: dict[str, Any]) -> dict[str, Any]:
    return chat_body | {"stream": True}


def count_events(stream: bytes) -> int:
    return stream.count(b"\n\n")


async def nothing_left(engine: FakeEngine) -> None:
    await engine.stats.until(lambda stats: stats.running == 0 and stats.waiting == 0)


@pytest.mark.parametrize(
    ("fault", "sent", "phase"),
    [
        ("hang", b"", Phase.PREFILL),
        ("hang; point=after-headers", b"\r\n\r\n", Phase.PREFILL),
        ("hang; point=event; after_events=3", b'"content":"', Phase.DECODE),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_hang_holds_the_request_until_the_client_leaves(
    engine: FakeEngine,
    connect: Connect,
    body: dict[str, Any],
    fault: str,
    sent: bytes,
    phase: Phase,
    streaming: bool,
) -> None:
    raw = await connect(engine)
    raw.post(CHAT, body | {"stream": streaming}, x_fake_fault=fault, x_request_id="hung")
    if "event" in fault and not streaming:
        sent, phase = b"", Phase.PREFILL
    if sent:
        await raw.read_until(sent)
    await engine.stats.until(lambda stats: stats.running == 1)
    # A stream may have buffered events to give, but it never ends.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw.reader.read(), 0.05)
    assert engine.running[0].phase is phase
    await raw.close()
    await engine.stats.until(lambda stats: stats.aborted[phase] == 1)
    assert engine.stats.aborts[0].x_request_id == "hung"
    assert engine.running == []


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("point", "events"),
    [("before-headers", None), ("mid-headers", None), ("after-headers", 0), ("event", 2), ("mid-chunk", 2)],
)
async def test_a_cut_stream_breaks_off_where_it_should(
    engine: FakeEngine, connect: Connect, body: dict[str, Any], point: str, events: int | None, reset: bool
) -> None:
    raw = await connect(engine)
    raw.post(CHAT, body, x_fake_fault=f"cut; point={point}; after_events=2; reset={str(reset).lower()}")
    if reset:
        with pytest.raises(ConnectionResetError):
            await raw.read_to_end()
    else:
        received = await raw.read_to_end()
        head, found, stream = received.partition(b"\r\n\r\n")
        assert bool(found) == (events is not None)
        assert END not in received
        assert (head == b"") == (point == "before-headers")
        if events is not None:
            assert count_events(stream) == events
            assert stream.endswith(b"\n\n\r\n") == (point == "event")
    await nothing_left(engine)
    assert engine.stats.aborted_total == 0
    assert engine.stats.faults_committed == 1


async def test_a_cut_in_the_middle_of_a_body(
    engine: FakeEngine, connect: Connect, chat_body: dict[str, Any]
) -> None:
    raw = await connect(engine)
    raw.post(CHAT, chat_body, x_fake_fault="cut; point=mid-body")
    head, _, part = (await raw.read_to_end()).partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(part) == length // 2


async def test_a_cut_on_connect(engine: FakeEngine, connect: Connect) -> None:
    engine.set_faults(Fault("cut", point="connect", count=1))
    assert await (await connect(engine)).read_to_end() == b""
    raw = await connect(engine)
    raw.writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await raw.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_truncated_stream_ends_properly_but_early(
    engine: FakeEngine, client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await client.post(CHAT, json=body, headers={"x-fake-fault": "truncate; after_events=3"})
    assert count_events(answer.content) == 3
    assert b"[DONE]" not in answer.content
    assert b'"finish_reason":"' not in answer.content
    assert engine.stats.aborted_total == 0
    await nothing_left(engine)


async def test_an_error_event_in_the_middle(
    client: httpx.AsyncClient, body: dict[str, Any], sse: Any
) -> None:
    fault = {"x-fake-fault": "error-event; after_events=2; status=500; message=engine died"}
    events = sse((await client.post(CHAT, json=body, headers=fault)).content)
    assert events[2][1]["error"]["message"] == "engine died"
    assert events[2][1]["error"]["type"] == "InternalServerError"
    assert events[3] == (None, "[DONE]")
    assert len(events) == 4


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_an_error_event_has_its_familys_form(client: httpx.AsyncClient, path: str, sse: Any) -> None:
    fault = {"x-fake-fault": "error-event; after_events=4; message=engine died"}
    body: dict[str, Any] = {"model": "fake", "max_tokens": 9, "stream": True, "input": "hi"}
    body["messages"] = [{"role": "user", "content": "hi"}]
    events = sse((await client.post(path, json=body, headers=fault)).content)
    name, data = events[4]
    assert len(events) == 5
    assert name == data["type"] == "error"
    assert "engine died" in str(data)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502, 503])
async def test_a_status(client: httpx.AsyncClient, body: dict[str, Any], status: int) -> None:
    fault = {"x-fake-fault": f"status; status={status}; retry_after=3"}
    answer = await client.post(CHAT, json=body, headers=fault)
    assert answer.status_code == answer.json()["error"]["code"] == status
    assert answer.headers["retry-after"] == "3"
    assert (await client.post(CHAT, json=body)).status_code == 200


async def test_a_slow_start_and_slow_events(
    engine: FakeEngine, client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    slow = {"x-fake-fault": "slow; first_s=0.05; event_s=0.02"}
    sound = (await client.post(CHAT, json=body, headers={"x-request-id": "a"})).content
    async with client.stream("POST", CHAT, json=body, headers=slow | {"x-request-id": "a"}) as answer:
        first = loop.time() - start
        received = b"".join([part async for part in answer.aiter_raw()])
    assert first >= 0.05
    assert loop.time() - start >= 0.05 + 5 * 0.02
    assert len(received) == len(sound)
    unary = await client.post(
        CHAT, json=body | {"stream": False}, headers={"x-fake-fault": "slow; first_s=0.03"}
    )
    assert unary.json()["usage"]["completion_tokens"] == 6
    await nothing_left(engine)


async def test_a_slow_start_holds_back_early_events_too(client: httpx.AsyncClient, sse: Any) -> None:
    fault = {"x-fake-fault": "slow; first_s=0.03"}
    body = {"input": "hi", "stream": True, "max_output_tokens": 2}
    events = sse((await client.post("/v1/responses", json=body, headers=fault)).content)
    assert events[0][0] == "response.created"
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("framing", ["both", "long", "short", "bad-chunk"])
async def test_bad_framing(
    engine: FakeEngine, connect: Connect, body: dict[str, Any], framing: str, streaming: bool
) -> None:
    raw = await connect(engine)
    raw.post(CHAT, body | {"stream": streaming}, x_fake_fault=f"framing; framing={framing}")
    head, _, content = (await raw.read_to_end()).partition(b"\r\n\r\n")
    lines = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    match framing:
        case "both":
            assert lines.keys() >= {b"content-length", b"transfer-encoding"}
        case "long":
            assert int(lines[b"content-length"]) > len(content) > 0
        case "short":
            assert int(lines[b"content-length"]) < len(content)
        case "bad-chunk":
            assert b"xyz\r\n" in content
    await nothing_left(engine)


async def test_health_can_fail_and_hang(
    engine: FakeEngine, client: httpx.AsyncClient, connect: Connect
) -> None:
    engine.set_faults(Fault("status", path="/health", count=1), Fault("hang", path="/health", count=1))
    assert (await client.get("/health")).status_code == 503
    raw = await connect(engine)
    raw.writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    await engine.stats.until(lambda stats: stats.faults_committed == 2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw.reader.read(1), 0.05)
    assert (await client.get("/health")).status_code == 200


async def test_refusing_closes_the_listener_and_opens_it_again(start_engine: StartEngine) -> None:
    engine = await start_engine(control_port=0)
    engine.set_faults(Fault("refuse"))
    with pytest.raises(httpx.ConnectError):
        await _health(engine)
    async with httpx.AsyncClient(base_url=engine.control_url, verify=False) as control:
        assert (await control.get("/fake/stats")).json()["faults_committed"] == 1
        await control.delete("/fake/faults")
        await _accepts(engine)
        await control.post("/fake/faults", json={"kind": "refuse", "for_s": 0.02})
        with pytest.raises(httpx.ConnectError):
            await _health(engine)
        await _accepts(engine)
        assert (await control.get("/fake/faults")).json() == {"faults": []}


async def test_refusing_may_drop_open_connections_as_a_dying_process_does(
    start_engine: StartEngine, connect: Connect, body: dict[str, Any]
) -> None:
    engine = await start_engine(timing=Timing(itl_base_s=30.0))
    kept, dropped = await connect(engine), await connect(engine)
    kept.post(CHAT, body)
    await kept.read_until(b"\n\n")
    engine.set_faults(Fault("refuse"))
    assert engine.stats.running == 1
    dropped.post(CHAT, body)
    await dropped.read_until(b"\n\n")
    engine.set_faults()
    await _accepts(engine)
    engine.set_faults(Fault("refuse", reset=True))
    await engine.stats.until(lambda stats: stats.connections_open == 0)


async def _health(engine: FakeEngine) -> int:
    async with httpx.AsyncClient(verify=False) as client:
        return (await client.get(f"{engine.url}/health")).status_code


async def _accepts(engine: FakeEngine) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                assert await _health(engine) == 200
            except httpx.ConnectError:
                await asyncio.sleep(0.005)
            else:
                return


async def test_faults_are_set_and_shown_over_http(
    engine: FakeEngine, client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    faults = [
        {"kind": "status", "status": 500, "count": 1},
        {"kind": "truncate", "after_events": 1, "count": 1},
    ]
    shown = (await client.post("/fake/faults", json={"faults": faults})).json()["faults"]
    assert [fault["kind"] for fault in shown] == ["status", "truncate"]
    answers = [await client.post(CHAT, json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500, 200, 200]
    assert [count_events(answer.content) for answer in answers] == [0, 1, 8]
    left = (await client.get("/fake/faults")).json()["faults"]
    assert [(fault["hits"], fault["count"]) for fault in left] == [(1, 0), (1, 0)]
    refused = await client.post("/fake/faults", json={"kind": "explode"})
    assert refused.status_code == 400
    assert "explode" in refused.json()["error"]["message"]


async def test_a_header_shields_from_the_plan(
    client: httpx.AsyncClient, engine: FakeEngine, body: Any
) -> None:
    engine.set_faults(Fault("status"))
    assert (await client.post(CHAT, json=body)).status_code == 503
    assert (await client.post(CHAT, json=body, headers={"x-fake-fault": "none"})).status_code == 200
    wrong = await client.post(CHAT, json=body, headers={"x-fake-fault": "explode"})
    assert wrong.status_code == 400


async def test_the_control_listener_knows_no_faults(
    start_engine: StartEngine, chat_body: dict[str, Any]
) -> None:
    engine = await start_engine(control_port=0, faults=(Fault("status"), Fault("cut", path="/health")))
    async with httpx.AsyncClient(verify=False) as client:
        assert (await client.post(f"{engine.url}{CHAT}", json=chat_body)).status_code == 503
        assert (await client.post(f"{engine.control_url}{CHAT}", json=chat_body)).status_code == 200
        assert (await client.get(f"{engine.control_url}/health")).status_code == 200
