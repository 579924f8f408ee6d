from __future__ import annotations

import json
from typing import Any

import pytest

from engine_adapter.cache_salt import CacheSalt, known_as
from gateway.access.keys import Key
from gateway.errors import InvalidRequest
from gateway.relay.call import Admitter
from gateway.relay.envelope import Envelope, Wishes
from gateway.relay.settings import RelaySettings

POOL = Key("id", "n", "00" * 32)
ACME = Key("id", "n", "00" * 32, tenant="acme")
OPEN = Key("id", "n", "00" * 32, tenant="acme", shares_cache=True)


def sent(
    body: dict[str, Any], key: Key | None, family: str = "chat", url: bytes = b"/v1/x"
) -> dict[str, Any]:
    """The body that a worker gets."""
    raw = json.dumps({"model": "m", **body}, separators=(",", ":")).encode()
    envelope = Envelope(url, family, b"", key, Wishes())
    call = Admitter(RelaySettings(), None, lambda: None).admit(envelope, b"id", raw, b"")
    found: dict[str, Any] = json.loads(call.body)
    return found


def salt(body: dict[str, Any], key: Key | None) -> CacheSalt:
    return CacheSalt.parse(sent(body, key).get("cache_salt"))


@pytest.mark.parametrize("key", [None, POOL, OPEN])
def test_who_is_in_the_pool_sends_no_salt(key: Key | None) -> None:
    assert sent({"messages": []}, key) == {"model": "m", "messages": []}


def test_a_tenant_shares_with_itself_only() -> None:
    assert salt({}, ACME) == CacheSalt("acme")
    assert salt({"sluice": {"kv_quality": "small"}}, ACME) == CacheSalt("acme", "small")
    assert sent({"messages": [1], "x": 1.50}, ACME) | {"cache_salt": ""} == {
        "model": "m", "messages": [1], "x": 1.5, "cache_salt": "",
    }  # fmt: skip


def test_a_salt_of_the_clients_own_parts_further_and_leads_nowhere_else() -> None:
    assert sent({"cache_salt": "mine"}, None)["cache_salt"] == "mine"
    forged = CacheSalt("acme").encode()
    assert salt({"cache_salt": forged}, None).tenant not in ("acme", "")
    assert salt({"cache_salt": forged}, ACME) != salt({}, ACME)
    assert salt({"cache_salt": "a"}, ACME) != salt({"cache_salt": "b"}, ACME)
    assert salt({"cache_salt": "mine"}, None) != salt({"cache_salt": "mine"}, ACME)
    assert salt({"cache_salt": None}, ACME) == CacheSalt("acme")
    with pytest.raises(InvalidRequest, match="must be a string"):
        sent({"cache_salt": 7}, ACME)


def test_lossy_caches_have_names_of_their_own() -> None:
    assert salt({"sluice": {"kv_quality": "balanced"}}, None) == CacheSalt("", "balanced")
    assert sent({"sluice": {"kv_quality": "exact"}}, None) == {"model": "m"}
    with pytest.raises(InvalidRequest, match="kv_quality"):
        sent({"sluice": {"kv_quality": "perfect"}}, None)


def test_an_endpoint_that_cannot_part_tenants_refuses_them() -> None:
    assert sent({}, POOL, "messages") == {"model": "m"}
    assert sent({}, ACME, "messages", b"/v1/messages/count_tokens") == {"model": "m"}
    assert sent({}, ACME, "tokens") == {"model": "m"}
    with pytest.raises(InvalidRequest, match="tenant 'acme'") as refused:
        sent({}, ACME, "messages")
    assert refused.value.code == "isolation_unsupported"


def test_routing_takes_the_salt_for_a_part_of_the_prompt() -> None:
    raw = b'{"model":"m","messages":[]}'
    heads = {
        Admitter(RelaySettings(), None, lambda: None)
        .admit(Envelope(b"/v1/x", "chat", b"", key, Wishes()), b"id", raw, b"")
        .route.head
        for key in (POOL, ACME, Key("id", "n", "00" * 32, tenant="other"))
    }
    assert len(heads) == 3


@pytest.mark.parametrize("tenant", ["a" * 300, "b/c", "d@e", "f\\g", "h\0i", "plain", "ümlaut: one"])
def test_salts_are_such_as_the_engine_takes(tenant: str) -> None:
    key = Key("id", "n", "00" * 32, tenant=tenant)
    text = sent({"cache_salt": "s" * 128}, key)["cache_salt"]
    assert len(text) <= 128
    assert not set("@/\\\0") & set(text)
    assert CacheSalt.parse(text).tenant != salt({}, key).tenant
    assert salt({}, key) == CacheSalt(known_as(tenant))
