from __future__ import annotations

import msgspec
import pytest

from gateway.errors import InvalidRequest
from gateway.relay.log_wish import LogWish, from_body, from_header
from gateway.relay.request import parse, without_extras
from gateway.relay.sse import split_events


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        (b"resumable", LogWish("resumable")),
        (b" Detached ", LogWish("detached")),
        (b"resumable;ids", LogWish("resumable", ids=True)),
        (b"detached ; IDS", LogWish("detached", ids=True)),
    ],
)
def test_headers(value: bytes, wish: LogWish) -> None:
    assert from_header(value) == wish


@pytest.mark.parametrize("value", [b"", b"yes", b"resumable; ids; ids", b"\xff" * 100])
def test_headers_that_are_none(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="x-sluice-stream"):
        from_header(value)


@pytest.mark.parametrize(
    ("raw", "wish"),
    [
        (b"null", None),
        (b"{}", None),
        (b'{"stream":null}', None),
        (b'{"stream":"detached"}', LogWish("detached")),
        (b'{"ids":true,"stream":"resumable"}', LogWish("resumable", ids=True)),
    ],
)
def test_bodies(raw: bytes, wish: LogWish | None) -> None:
    assert from_body(msgspec.Raw(raw)).log == wish


def test_the_rest_of_the_body_keeps_its_bytes() -> None:
    body = b'{"model":"m", "sluice":{"stream":"detached"},"temperature":0.10,"x":{"sluice":1}}'
    extras = parse(body).extras
    assert extras is not None
    assert bytes(extras) == b'{"stream":"detached"}'
    assert without_extras(body) == b'{"model":"m","temperature":0.10,"x":{"sluice":1}}'
    assert parse(b'{"model":"m"}').extras is None


def test_events_one_by_one() -> None:
    assert split_events(b"data: a\n\nevent: x\r\ndata: b\r\n\r\n: c\n\ndata: d\n\n") == [
        b"data: a\n\n",
        b"event: x\r\ndata: b\r\n\r\n",
        b"data: d\n\n",
    ]
    assert split_events(b": c\ndata: d\n\n") == [b": c\ndata: d\n\n"]
