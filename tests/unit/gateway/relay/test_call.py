from __future__ import annotations

import json
from typing import Any

import pytest

from engine_adapter.cache_salt import CacheSalt
from gateway.access.keys import Key
from gateway.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from gateway.relay.call import Admitter, Call
from gateway.relay.envelope import Envelope, read_wishes
from gateway.relay.settings import Admission, RelaySettings, Timeouts

KEY = Key(id="k", name="k", hash="", tenant="acme", models=("m", "nick"), max_priority=5)


class OneKey:
    version = 1

    def check(self, authorization: bytes | None, x_api_key: bytes | None = None) -> Key | None:
        return KEY if b"secret" in (authorization or b"", x_api_key or b"") else None


def admit(
    body: bytes = b'{"model":"m"}',
    headers: dict[bytes, bytes] | None = None,
    *,
    settings: RelaySettings | None = None,
    key: Key | None = None,
    default: str | None = None,
) -> Call:
    admitter = Admitter(settings or RelaySettings(), None, lambda: default)
    return admitter.admit(Envelope(b"/v1/x", "chat", b"", key, read_wishes(headers or {})), b"id", body, b"")


def test_keys_are_asked_for_and_named() -> None:
    admitter = Admitter(RelaySettings(), OneKey(), lambda: None)
    assert admitter.authenticate({b"authorization": b"secret"}) is KEY
    assert admitter.authenticate({b"x-api-key": b"secret"}) is KEY
    with pytest.raises(AuthenticationFailed) as missing:
        admitter.authenticate({})
    with pytest.raises(AuthenticationFailed) as wrong:
        admitter.authenticate({b"authorization": b"Bearer x"})
    assert (missing.value.code, wrong.value.code) == ("missing_api_key", "invalid_api_key")
    assert Admitter(RelaySettings(), None, lambda: None).authenticate({}) is None


def test_the_only_model_is_the_default() -> None:
    assert admit(b"{}", default="m").model == "m"
    with pytest.raises(InvalidRequest) as caught:
        admit(b"{}")
    assert (caught.value.code, caught.value.param) == ("missing_model", "model")


def test_a_key_may_be_bound_to_models() -> None:
    assert admit(key=KEY).envelope.tenant == "acme"
    with pytest.raises(PermissionDenied) as caught:
        admit(b'{"model":"other"}', key=KEY)
    assert caught.value.code == "model_not_allowed"


def test_an_alias_is_resolved_after_the_key_was_asked() -> None:
    settings = RelaySettings(aliases={"nick": "long-name"})
    call = admit(b'{"model":"nick","x":1}', settings=settings, key=KEY)
    assert (call.model, call.route.model) == ("long-name", "long-name")
    assert json.loads(call.body) == {"model": "long-name", "x": 1, "cache_salt": CacheSalt("acme").encode()}


def test_timeouts_by_model_and_by_request() -> None:
    settings = RelaySettings(timeouts=Timeouts(silence=9), model_timeouts={"slow": Timeouts(silence=99)})
    assert admit(settings=settings).timeouts.silence == 9
    assert admit(b'{"model":"slow"}', settings=settings).timeouts.silence == 99
    wishes = {
        b"x-sluice-timeout-connect": b"1",
        b"x-sluice-timeout-queue": b"2.5",
        b"x-sluice-timeout-first-byte": b"3",
        b"x-sluice-timeout-silence": b"4e1",
    }
    assert admit(b'{"model":"slow"}', wishes, settings=settings).timeouts == Timeouts(1, 2.5, 3, 40, 60)
    assert settings.model_timeouts["slow"].silence == 99


@pytest.mark.parametrize("value", [b"0", b"-1", b"nan", b"inf", b"1e9", b"", b"ten", b"1,5", b"\xff"])
def test_nonsense_timeouts_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        admit(headers={b"x-sluice-timeout-silence": value})
    assert (caught.value.code, caught.value.param) == ("invalid_header", "x-sluice-timeout-silence")


@pytest.mark.parametrize(
    ("asked", "key", "sent"), [(-9, KEY, -5), (-5, KEY, -5), (4, KEY, 4), (-9, None, -9)]
)
def test_the_engine_is_asked_for_no_more_priority_than_the_key_allows(
    asked: int, key: Key | None, sent: int
) -> None:
    call = admit(b'{"model":"m","priority":%d,"x":1.50}' % asked, {}, key=key)
    assert b'"priority":%d,' % sent in bytes(call.body)
    assert b'"x":1.50' in bytes(call.body)


@pytest.mark.parametrize(
    ("body", "header", "key", "priority"),
    [
        (b'{"model":"m"}', None, None, 0),
        (b'{"model":"m","priority":7}', None, None, -7),  # vLLM's sense: less is earlier
        (b'{"model":"m","priority":7}', b"3", None, 3),
        (b'{"model":"m","priority":-7}', None, KEY, 5),
        (b'{"model":"m"}', b"9", KEY, 5),
        (b'{"model":"m"}', b"-9", KEY, -9),
        (b'{"model":"m","priority":"high"}', None, None, 0),
    ],
)
def test_priority_within_what_the_key_allows(
    body: bytes, header: bytes | None, key: Key | None, priority: int
) -> None:
    headers = {b"x-sluice-priority": header} if header is not None else {}
    assert admit(body, headers, key=key).priority == priority


@pytest.mark.parametrize("value", [b"1.5", b"", b"1_0", b" 1", b"+1", b"1" * 13, b"--1", "٣".encode()])
def test_nonsense_priorities_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        admit(headers={b"x-sluice-priority": value})
    assert caught.value.param == "x-sluice-priority"


def test_default_priority() -> None:
    settings = RelaySettings(admission=Admission(default_priority=2))
    assert admit(settings=settings).priority == 2
    assert admit(settings=settings, key=KEY).priority == 2


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({b"x-session-id": b"a"}, {"session": "a"}),
        ({b"x-sluice-session": b"b", b"x-session-id": b"a"}, {"session": "b"}),
        ({b"x-session-id": b"a", b"x-sluice-session": b"b"}, {"session": "b"}),
        ({b"x-sluice-policy": b"least"}, {"policy": "least"}),
        ({b"x-session-id": b"\xe4"}, {"session": "ä"}),
    ],
)
def test_wishes_reach_the_router(headers: dict[bytes, bytes], expected: dict[str, Any]) -> None:
    route = admit(headers=headers).route
    assert {name: getattr(route, name) for name in expected} == expected


def test_the_trace_context_is_kept() -> None:
    assert admit(headers={b"traceparent": b"00-a-b-01"}).envelope.wishes.traceparent == "00-a-b-01"
    assert admit().envelope.wishes.traceparent is None
