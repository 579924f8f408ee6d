"""What the gateway writes into a salt is what the KV layer reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_adapter.cache_salt import CacheSalt, known_as


@given(st.text(max_size=100), st.text(min_size=1, max_size=20))
def test_tenant_and_quality_come_back(tenant: str, quality: str) -> None:
    found = CacheSalt.parse(CacheSalt(tenant, quality).encode())
    assert found == CacheSalt(known_as(tenant), quality)


@given(st.text(alphabet="ab:/@", max_size=80), st.text(alphabet="ab:/@", max_size=80))
def test_different_tenants_have_different_names(one: str, other: str) -> None:
    assert (known_as(one) == known_as(other)) == (one == other)


def test_nothing_to_say_is_no_salt() -> None:
    assert CacheSalt().encode() is None
    assert CacheSalt.parse(None) == CacheSalt.parse("") == CacheSalt()


@pytest.mark.parametrize(
    "salt",
    [
        "mine",
        "sluice1:",
        "sluice1:x:a:exact",
        "sluice1:9:a:exact",
        "sluice1:1:a",
        "sluice1:1:a:",
        "sluice2:1:a:exact",
    ],
)
def test_a_salt_of_somebody_elses_isolates(salt: str) -> None:
    parsed = CacheSalt.parse(salt)
    assert parsed == CacheSalt(f"salt:{salt}")
    assert CacheSalt.parse(parsed.encode()) == parsed
