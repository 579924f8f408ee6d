"""Only the gateway says which pages may call it, and it says so on every answer, errors included."""

from __future__ import annotations

import pytest

from gateway.relay.settings import RelaySettings

from .conftest import CHAT, OneKey, Scripts, StartEngine, StartGateway, post_bytes

PAGE = "https://page.example"
ALLOW = "access-control-allow-origin"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), PAGE, None),
        ((PAGE,), PAGE, PAGE),
        ((PAGE,), "https://page.example.evil", None),
        ((PAGE,), "null", None),
        (("*",), PAGE, PAGE),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_who_may_read_answers(
    start_gateway: StartGateway,
    start_engine: StartEngine,
    origins: tuple[str, ...],
    origin: str,
    allowed: str | None,
    stream: bool,
) -> None:
    engine = await start_engine(record_requests=1)
    gateway = await start_gateway(engine, settings=RelaySettings(cors_origins=origins))
    answer = await gateway.ask(post_bytes(CHAT | {"stream": stream}, origin=origin))
    assert answer.status == 200
    assert answer.headers.get(ALLOW) == allowed
    assert answer.headers.get("vary") == ("origin" if allowed else None)
    assert ("access-control-expose-headers" in answer.headers) == (allowed is not None)
    assert engine.requests[0].header("origin") is None


async def test_errors_can_be_read_too(start_gateway: StartGateway) -> None:
    settings = RelaySettings(cors_origins=(PAGE,))
    gateway = await start_gateway(settings=settings, keys=OneKey())
    unauthorized = await gateway.ask(post_bytes(origin=PAGE))
    unknown = await gateway.ask(post_bytes(origin=PAGE, authorization="Bearer secret"))
    large = await gateway.ask(post_bytes(origin=PAGE, content_length="99999999999"))
    assert [a.status for a in (unauthorized, unknown, large)] == [401, 404, 413]
    assert {a.headers.get(ALLOW) for a in (unauthorized, unknown, large)} == {PAGE}


async def test_a_worker_cannot_open_the_gateway_to_pages(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    _, url = await scripts.answering(
        b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\n"
        b"content-length: 2\r\n\r\n{}"
    )
    closed = await start_gateway(url)
    answer = await closed.ask(post_bytes(origin=PAGE))
    assert not [name for name in answer.headers if name.startswith("access-control")]
    opened = await start_gateway(url, settings=RelaySettings(cors_origins=(PAGE,)))
    answer = await opened.ask(post_bytes(origin=PAGE))
    assert answer.headers[ALLOW] == PAGE
    assert "access-control-allow-credentials" not in answer.headers
