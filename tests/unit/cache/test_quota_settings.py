"""Quotas as they are written in settings."""

from __future__ import annotations

import pytest

from cache.settings import Quotas

DIGEST = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tenant_bytes": -1}, "tenant_bytes: a quota is 0 bytes or more, not -1"),
        ({"namespace_bytes": -1}, "namespace_bytes: a quota is 0 bytes or more"),
        ({"tenants": {"acme": -5}}, "tenants: acme: a quota is 0 bytes or more, not -5"),
        ({"namespaces": {DIGEST: -5}}, f"namespaces: {DIGEST}: a quota is 0 bytes or more"),
        ({"namespaces": {"acme": 5}}, "'acme' is no digest of 32 hexadecimal digits"),
    ],
)
def test_what_is_no_quota_is_told(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Quotas(**wrong)  # type: ignore[arg-type]


def test_nothing_is_a_quota_and_none_is_no_limit() -> None:
    quotas = Quotas(tenant_bytes=0, tenants={"acme": 7})
    assert quotas.of("anybody") == 0
    assert quotas.of("acme") == 7
    assert quotas.of(bytes.fromhex(DIGEST)) is None
