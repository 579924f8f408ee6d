from __future__ import annotations

import msgspec
import pytest

from gateway.errors import InvalidRequest
from gateway.relay.extras import LogOptions, from_body, from_header
from gateway.relay.request import parse, without_extras
from gateway.relay.sse import split_events


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (b"resumable", LogOptions("resumable")),
        (b" Detached ", LogOptions("detached")),
        (b"resumable;ids", LogOptions("resumable", ids=True)),
        (b"detached ; IDS", LogOptions("detached", ids=True)),
    ],
)
def test_headers(value: bytes, options: LogOptions) -> None:
    assert from_header(value) == options


@pytest.mark.parametrize("value", [b"", b"yes", b"resumable; ids; ids", b"\xff" * 100])
def test_headers_that_are_none(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="x-sluice-stream"):
        from_header(value)


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (b"null", None),
        (b"{}", None),
        (b'{"stream":null}', None),
        (b'{"stream":"detached"}', LogOptions("detached")),
        (b'{"ids":true,"stream":"resumable"}', LogOptions("resumable", ids=True)),
    ],
)
def test_bodies(raw: bytes, options: LogOptions | None) -> None:
    assert from_body(msgspec.Raw(raw)).log == options


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
