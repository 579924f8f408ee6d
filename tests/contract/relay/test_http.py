"""RFC 9112 and 9110, case by case: what a client may send, and what becomes of it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.relay.settings import HttpLimits, RelaySettings

from .conftest import (
    CHAT,
    JSON_OK,
    OneKey,
    RawClient,
    Scripts,
    StartEngine,
    StartGateway,
    post_bytes,
    until,
)

BODY = b'{"model":"fake","messages":[{"role":"user","content":"hi"}]}'
HOST = b"host: gateway\r\n"
TYPE = b"content-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"


def head(*lines: bytes, first: bytes = POST, host: bytes = HOST) -> bytes:
    return first + host + TYPE + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def chunked_body(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


PLAIN = head(LENGTH[:-2]) + BODY
CHUNKED = head(b"transfer-encoding: chunked")

SERVED = {
    "content-length": PLAIN,
    "chunked": CHUNKED + chunked_body(BODY[:10], BODY[10:]),
    "chunked byte by byte": CHUNKED + chunked_body(*[BODY[n : n + 1] for n in range(len(BODY))]),
    "chunk extensions (RFC 9112 7.1.1)": CHUNKED + b"%x;a=b;c\r\n%b\r\n0;x\r\n\r\n" % (len(BODY), BODY),
    "trailers (RFC 9110 6.5)": CHUNKED + b"%x\r\n%b\r\n0\r\nx-t: 1\r\n\r\n" % (len(BODY), BODY),
    "Transfer-Encoding in any case": head(b"Transfer-Encoding: Chunked") + chunked_body(BODY),
    "names in any case": head(b"CONTENT-LENGTH: %d" % len(BODY), host=b"HOST: gateway\r\n") + BODY,
    "no blank before a value": head(b"content-length:%d" % len(BODY)) + BODY,
    "blanks around a value": head(b"content-length: \t %d \t" % len(BODY)) + BODY,
    "empty lines before the request (RFC 9112 2.2)": b"\r\n\r\n" + PLAIN,
    "absolute-form target (RFC 9112 3.2.2)": head(
        LENGTH[:-2], first=b"POST http://elsewhere:1/v1/chat/completions?x=1 HTTP/1.1\r\n"
    )
    + BODY,
    "a query": head(LENGTH[:-2], first=b"POST /v1/chat/completions?a=b&c HTTP/1.1\r\n") + BODY,
    "an unknown Expect is ignored": head(LENGTH[:-2], b"expect: pancakes") + BODY,
    "an unknown Upgrade is ignored (RFC 9110 7.8)": head(LENGTH[:-2], b"connection: upgrade", b"upgrade: h2c")
    + BODY,
    "Java's HTTP client": head(
        b"Connection: Upgrade, HTTP2-Settings",
        LENGTH[:-2],
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        b"Upgrade: h2c",
    )
    + BODY,
    "a wish for WebSocket with POST": head(LENGTH[:-2], b"connection: upgrade", b"upgrade: websocket") + BODY,
    "a chunked body with an Upgrade": head(
        b"transfer-encoding: chunked", b"connection: upgrade", b"upgrade: h2c"
    )
    + chunked_body(BODY),
    "HTTP/1.0": head(LENGTH[:-2], first=b"POST /v1/chat/completions HTTP/1.0\r\n") + BODY,
    "HTTP/1.0 without Host": head(LENGTH[:-2], first=b"POST /v1/chat/completions HTTP/1.0\r\n", host=b"")
    + BODY,
}


@pytest.mark.parametrize("request_bytes", SERVED.values(), ids=SERVED)
async def test_served(start_gateway: StartGateway, start_engine: StartEngine, request_bytes: bytes) -> None:
    engine = await start_engine(record_requests=1)
    gateway = await start_gateway(engine)
    answer = await gateway.ask(request_bytes)
    assert answer.status == 200
    request = engine.requests[0]
    assert request.body == BODY
    assert request.target.startswith("/v1/chat/completions")
    assert request.header("content-length") == str(len(BODY))
    assert request.header("transfer-encoding") is None
    assert request.header("x-t") is None, "a trailer is no header"
    assert request.header("upgrade") is None


REFUSED = {
    "both framings (RFC 9112 6.1)": (
        head(LENGTH[:-2], b"transfer-encoding: chunked") + chunked_body(BODY),
        400,
    ),
    "both framings, other order": (
        head(b"transfer-encoding: chunked", LENGTH[:-2]) + chunked_body(BODY),
        400,
    ),
    "two lengths that differ (6.3)": (head(LENGTH[:-2], b"content-length: 3") + BODY, 400),
    "two lengths that agree": (head(LENGTH[:-2], LENGTH[:-2]) + BODY, 400),
    "a list of lengths": (head(b"content-length: %d, %d" % (len(BODY), len(BODY))) + BODY, 400),
    "a signed length": (head(b"content-length: +%d" % len(BODY)) + BODY, 400),
    "a negative length": (head(b"content-length: -1"), 400),
    "a hexadecimal length": (head(b"content-length: 0x10"), 400),
    "an empty length": (head(b"content-length:"), 400),
    "a length beyond 64 bits": (head(b"content-length: 99999999999999999999"), 400),
    "an unknown transfer coding": (head(b"transfer-encoding: xchunked") + chunked_body(BODY), 400),
    "identity as transfer coding": (head(b"transfer-encoding: identity", LENGTH[:-2]) + BODY, 400),
    "chunked not last (6.1)": (head(b"transfer-encoding: chunked, gzip") + chunked_body(BODY), 400),
    "chunked twice": (
        head(b"transfer-encoding: chunked", b"transfer-encoding: chunked") + chunked_body(BODY),
        400,
    ),
    "a folded line (5.2)": (head(b"x: a\r\n b", LENGTH[:-2]) + BODY, 400),
    "a blank before the colon (5.1)": (head(b"content-length : %d" % len(BODY)) + BODY, 400),
    "a blank line start": (head(b" x: y", LENGTH[:-2], first=POST) + BODY, 400),
    "bare LF lines (2.2)": (PLAIN.replace(b"\r\n", b"\n"), 400),
    "a bare LF in the head": (PLAIN.replace(b"gateway\r\n", b"gateway\n"), 400),
    "a bare CR in a value": (head(b"x: a\rb", LENGTH[:-2]) + BODY, 400),
    "a NUL in a value (9110 5.5)": (head(b"x: a\0b", LENGTH[:-2]) + BODY, 400),
    "a NUL in a name": (head(b"x\0y: a", LENGTH[:-2]) + BODY, 400),
    "no colon": (head(b"hello", LENGTH[:-2]) + BODY, 400),
    "a chunk size that is none (7.1)": (CHUNKED + b"xyz\r\n", 400),
    "a signed chunk size": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk size with 0x": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk size beyond 64 bits": (CHUNKED + b"fffffffffffffffff\r\n", 400),
    "a chunk longer than its size": (CHUNKED + b"3\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk line with a bare LF": (CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/3.7": (head(LENGTH[:-2], first=b"POST /v1/chat/completions HTTP/3.7\r\n") + BODY, 400),
    "a lower-case version": (head(LENGTH[:-2], first=b"POST /v1/chat/completions http/1.1\r\n") + BODY, 400),
    "an unknown method": (head(first=b"BREW /v1/chat/completions HTTP/1.1\r\n"), 400),
    "no target": (head(first=b"POST  HTTP/1.1\r\n"), 400),
    "a target with a blank": (
        head(LENGTH[:-2], first=b"POST /v1/chat/completions x HTTP/1.1\r\n") + BODY,
        400,
    ),
    "a target that is no path": (head(first=b"GET foo HTTP/1.1\r\n"), 400),
    "a target beyond ASCII": (head(first=b"GET /\xff\xfe HTTP/1.1\r\n"), 400),
    "CONNECT": (head(first=b"CONNECT elsewhere:443 HTTP/1.1\r\n"), 400),
    "TLS to a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
    "a body over the limit": (head(b"content-length: 2000000") + b"x" * 1000, 413),
    "a chunked body over the limit": (CHUNKED + b"1e8480\r\n" + b"x" * 1_500_000, 413),
    "a head over the limit in one piece": (head(b"x: " + b"y" * 20_000, LENGTH[:-2]) + BODY, 431),
    "a head over the limit in many lines": (
        head(*[b"x%d: y" % n for n in range(2000)], LENGTH[:-2]) + BODY,
        431,
    ),
    "a target over the limit": (
        head(LENGTH[:-2], first=b"POST /v1/chat/completions?" + b"x" * 20_000 + b" HTTP/1.1\r\n") + BODY,
        431,
    ),
    "a head over the limit for the control plane": (
        head(b"x: " + b"y" * 20_000, first=b"GET /health HTTP/1.1\r\n"),
        431,
    ),
}


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED)
async def test_refused_and_closed(start_gateway: StartGateway, request_bytes: bytes, status: int) -> None:
    """Nothing of the request reaches a worker, and nothing after it is read as another request."""
    limits = HttpLimits(header_bytes=16_384, body_bytes=1_000_000)
    gateway = await start_gateway("http://127.0.0.1:9", settings=RelaySettings(limits=limits))
    client = await gateway.connect()
    client.send(request_bytes + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = await client.answer()
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert await client.ended()
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers["content-type"] == "application/json"
    assert not gateway.records


@pytest.mark.parametrize(
    "request_bytes",
    [head(LENGTH[:-2], host=b"") + BODY, head(LENGTH[:-2], b"host: other") + BODY],
    ids=["no Host (RFC 9112 3.2)", "two Hosts"],
)
async def test_what_is_framed_well_is_refused_without_closing(
    start_gateway: StartGateway, request_bytes: bytes
) -> None:
    gateway = await start_gateway("http://127.0.0.1:9")
    client = await gateway.connect()
    client.send(request_bytes + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    refused, served = await client.answer(), await client.answer()
    assert (refused.status, refused.error["code"]) == (400, "invalid_host")
    assert served.status == 200


async def test_a_head_that_never_ends(start_gateway: StartGateway) -> None:
    settings = RelaySettings(limits=HttpLimits(header_bytes=16_384))
    gateway = await start_gateway("http://127.0.0.1:9", settings=settings)
    client = await gateway.connect()
    client.send(POST + b"x: y\r\n" * 4000)
    assert (await client.answer()).status == 431
    assert await client.ended()


@pytest.mark.parametrize("step", [1, 2, 7])
@pytest.mark.parametrize("name", ["content-length", "chunked", "trailers (RFC 9110 6.5)"])
async def test_a_request_in_small_pieces(
    start_gateway: StartGateway, start_engine: StartEngine, name: str, step: int
) -> None:
    engine = await start_engine(record_requests=2)
    gateway = await start_gateway(engine)
    client = await gateway.connect()
    data = SERVED[name] * 2
    for start in range(0, len(data), step):
        client.send(data[start : start + step])
        await client.writer.drain()
        if start % (step * 16) == 0:
            await until(lambda: True)
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert [request.body for request in engine.requests] == [BODY, BODY]


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 404), ("HEAD", 404), ("OPTIONS", 404), ("PUT", 404), ("DELETE", 404)]
)
async def test_other_methods_on_relayed_paths_are_the_control_planes(
    start_gateway: StartGateway, start_engine: StartEngine, method: str, status: int
) -> None:
    engine = await start_engine()
    gateway = await start_gateway(engine)
    async with gateway.http() as http:
        response = await http.request(method, "/v1/chat/completions")
        assert response.status_code == status
        assert (await http.get("/health")).status_code == 200
    assert engine.stats.requests_seen == 0


# 100-continue (RFC 9110 10.1.1)


async def test_expect_100_continue(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    gateway = await start_gateway(await start_engine())
    client = await gateway.connect()
    for _ in range(2):
        client.send(head(LENGTH[:-2], b"Expect: 100-Continue"))
        interim = await client.answer()
        assert (interim.status, interim.headers) == (100, {})
        client.send(BODY)
        assert (await client.answer()).status == 200


async def test_expect_with_the_body_already_there(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    gateway = await start_gateway(await start_engine())
    client = await gateway.connect()
    client.send(head(LENGTH[:-2], b"expect: 100-continue") + BODY)
    assert (await client.answer()).status in (100, 200)


async def test_an_http_10_client_is_sent_no_interim_answer(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    gateway = await start_gateway(await start_engine())
    first = b"POST /v1/chat/completions HTTP/1.0\r\n"
    answer = await gateway.ask(head(LENGTH[:-2], b"expect: 100-continue", first=first) + BODY)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"authorization: Bearer wrong", LENGTH[:-2]), 401),
        ((b"authorization: Bearer secret", b"content-length: 99999999999"), 413),
    ],
)
async def test_a_refusal_comes_instead_of_100_continue(
    start_gateway: StartGateway, start_engine: StartEngine, lines: tuple[bytes, ...], status: int
) -> None:
    gateway = await start_gateway(await start_engine(), keys=OneKey())
    client = await gateway.connect()
    client.send(head(*lines, b"expect: 100-continue"))
    answer = await client.answer()
    assert answer.status == status
    assert await client.ended()


# limits of time


async def test_a_head_that_drips(start_gateway: StartGateway) -> None:
    limits = HttpLimits(header_seconds=0.1, keep_alive_seconds=60)
    gateway = await start_gateway("http://127.0.0.1:9", settings=RelaySettings(limits=limits))
    client = await gateway.connect()
    client.send(POST + HOST)
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert await client.ended()


@pytest.mark.parametrize("request_head", [head(LENGTH[:-2]), CHUNKED + b"5\r\n"], ids=["length", "chunked"])
async def test_a_body_that_drips(start_gateway: StartGateway, request_head: bytes) -> None:
    settings = RelaySettings(limits=HttpLimits(body_seconds=0.1))
    gateway = await start_gateway("http://127.0.0.1:9", settings=settings)
    client = await gateway.connect()
    client.send(request_head + BODY[:3])
    answer = await client.answer()
    assert answer.status == 408
    assert await client.ended()


@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
async def test_a_body_for_the_control_plane_that_drips(start_gateway: StartGateway, framing: bytes) -> None:
    settings = RelaySettings(limits=HttpLimits(body_seconds=0.1))
    gateway = await start_gateway(settings=settings)
    client = await gateway.connect()
    client.send(b"POST /echo HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % framing + b"5\r\nhello")
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert await client.ended()
    await until(lambda: not gateway.server.server_state.tasks)


async def test_a_slow_answer_of_the_control_plane_is_not_held_against_its_request(
    start_gateway: StartGateway,
) -> None:
    settings = RelaySettings(limits=HttpLimits(body_seconds=0.001))
    gateway = await start_gateway(settings=settings)
    client = await gateway.connect()
    client.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await client.answer()).status == 200


async def test_dripping_does_not_renew_the_limit(start_gateway: StartGateway) -> None:
    settings = RelaySettings(limits=HttpLimits(header_seconds=0.3))
    gateway = await start_gateway("http://127.0.0.1:9", settings=settings)
    client = await gateway.connect()
    loop = gateway.relay.loop
    started = loop.time()
    drip = loop.create_task(_drip(client))
    answer = await client.answer()
    drip.cancel()
    assert answer.status == 408
    assert loop.time() - started < 2


async def _drip(client: RawClient) -> None:
    client.send(POST)
    while True:
        client.send(b"x: y\r\n")
        await asyncio.sleep(0.02)


async def test_a_pipelined_request_that_drips_ends_the_connection_after_the_answer(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    _, url = await scripts.answering(JSON_OK)
    settings = RelaySettings(limits=HttpLimits(header_seconds=0.1, body_seconds=0.1))
    gateway = await start_gateway(url, settings=settings)
    client = await gateway.connect()
    client.send(PLAIN + head(LENGTH[:-2]) + BODY[:5])
    assert [(await client.answer()).status for _ in range(2)] == [200, 408]
    assert await client.ended()
    assert len(gateway.records) == 1


async def test_idle_connections_are_closed(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    settings = RelaySettings(limits=HttpLimits(keep_alive_seconds=0.05))
    gateway = await start_gateway(await start_engine(), settings=settings)
    silent, used, stray = [await gateway.connect() for _ in range(3)]
    used.send(PLAIN)
    assert (await used.answer()).status == 200
    stray.send(b"\r\n")
    await until(lambda: len(gateway.server.server_state.connections) == 3)

    def swept() -> bool:
        for connection in list(gateway.server.server_state.connections):
            connection.close_if_idle(gateway.relay.now())  # type: ignore[union-attr]
        return not gateway.server.server_state.connections

    await until(swept)
    for client in (silent, used, stray):
        assert await client.ended()


async def test_a_busy_connection_is_not_idle(start_gateway: StartGateway, scripts: Scripts) -> None:
    _, url = await scripts.silent()
    settings = RelaySettings(limits=HttpLimits(keep_alive_seconds=0.01))
    gateway = await start_gateway(url, settings=settings)
    client = await gateway.connect()
    client.send(PLAIN)
    await until(lambda: gateway.accounting.active == 1)
    (connection,) = gateway.server.server_state.connections
    connection.close_if_idle(gateway.relay.now() + 100)  # type: ignore[union-attr]
    assert gateway.accounting.active == 1


async def test_so_many_requests_on_one_connection(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    settings = RelaySettings(limits=HttpLimits(requests_per_connection=3))
    gateway = await start_gateway(await start_engine(), settings=settings)
    client = await gateway.connect()
    closing = []
    for _ in range(3):
        client.send(PLAIN)
        closing.append((await client.answer()).headers.get("connection"))
    assert closing == [None, None, "close"]
    assert await client.ended()


async def test_connection_close_is_honoured(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    gateway = await start_gateway(await start_engine())
    for stream in (False, True):
        client = await gateway.connect()
        client.send(post_bytes(CHAT | {"stream": stream}, connection="close"))
        answer = await client.answer()
        assert answer.headers["connection"] == "close"
        assert await client.ended()


async def test_http_10_answers_end_with_the_connection(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    gateway = await start_gateway(await start_engine())
    client = await gateway.connect()
    client.send(post_bytes(CHAT | {"stream": True}, version="1.0", connection="keep-alive"))
    answer = await client.answer()
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert answer.body.endswith(b"data: [DONE]\n\n")


# what workers see


async def test_what_reaches_the_worker(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    engine = await start_engine(record_requests=1)
    gateway = await start_gateway(engine, keys=OneKey(), settings=RelaySettings(worker_api_key="inner"))
    await gateway.ask(
        post_bytes(
            authorization="Bearer secret",
            x_api_key="secret",
            accept_encoding="gzip, br",
            connection="x-hop, keep-alive",
            x_hop="1",
            te="trailers",
            origin="https://page",
            x_request_id="mine",
            x_custom="kept",
            traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        )
    )
    request = engine.requests[0]
    got = {name.lower(): value for name, value in request.headers}
    assert len(got) == len(request.headers), "no field twice"
    assert got.pop("host") == gateway.worker().url.removeprefix("http://")
    assert got.pop("authorization") == "Bearer inner"
    assert got.pop("accept-encoding") == "identity"
    assert got.pop("x-request-id") == "mine"
    assert got.pop("x-custom") == "kept"
    assert got.pop("traceparent")
    assert set(got) == {"content-type", "content-length"}


@pytest.mark.parametrize("forged", ["a b", "x" * 129, "ä", "a\tb", "<script>", ""])
async def test_an_unusable_request_id_is_replaced(
    start_gateway: StartGateway, start_engine: StartEngine, forged: str
) -> None:
    gateway = await start_gateway(await start_engine())
    answer = await gateway.ask(post_bytes(x_request_id=forged))
    assert answer.headers["x-request-id"] not in ("", forged)
    other = await gateway.ask(post_bytes(x_request_id=forged))
    assert other.headers["x-request-id"] != answer.headers["x-request-id"]


async def test_a_repeated_head_is_checked_like_the_first(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    """The gateway knows a head again by its bytes: that must not widen any limit."""
    engine = await start_engine(record_requests=10)
    settings = RelaySettings(limits=HttpLimits(body_bytes=1000, requests_per_connection=6))
    gateway = await start_gateway(engine, settings=settings, keys=OneKey())
    client = await gateway.connect()
    for size in (1, 50, 9, 300):
        body = CHAT | {"user": "u" * size}
        client.send(post_bytes(body, authorization="Bearer secret"))
        assert (await client.answer()).status == 200
    for request, size in zip(engine.requests, (1, 50, 9, 300), strict=True):
        assert request.header("content-length") == str(len(request.body))
        assert b"u" * size in request.body
    client.send(post_bytes(authorization="Bearer wrong!"))
    assert (await client.answer()).status == 401
    client.send(post_bytes(CHAT | {"user": "u" * 2000}, authorization="Bearer secret"))
    assert (await client.answer()).status == 413
    assert await client.ended()


async def test_a_revoked_key_is_refused_on_a_kept_connection(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    keys = OneKey()
    gateway = await start_gateway(await start_engine(), keys=keys)
    client = await gateway.connect()
    for _ in range(3):
        client.send(post_bytes(authorization="Bearer secret"))
        assert (await client.answer()).status == 200
    keys.check = lambda *_: None  # type: ignore[method-assign]
    keys.version += 1
    client.send(post_bytes(authorization="Bearer secret"))
    assert (await client.answer()).status == 401


async def test_errors_of_the_messages_api_have_its_form(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    gateway = await start_gateway(await start_engine())
    answer = await gateway.ask(post_bytes(b"{", path="/v1/messages"))
    assert answer.status == 400
    assert answer.body.startswith(b'{"type":"error","error":{')
