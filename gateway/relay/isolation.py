"""Whose KV caches a request may use: said to the worker in `cache_salt`, which engine and KV layer obey.

The salt decides inside vLLM's own prefix cache and in every tier of the KV layer
(`engine_adapter.cache_salt`), so a tenant's prompts can be told from their timing by nobody else.
"""

from __future__ import annotations

import msgspec

from engine_adapter.cache_salt import EXACT, MARK, CacheSalt
from gateway.access.keys import POOL, Key
from gateway.errors import InvalidRequest

_SALTED = frozenset(("chat", "completions", "responses", "pooling"))
"""Families whose requests vLLM takes a `cache_salt` in."""
_UNTOUCHED = "tokens"
"""The family that touches no cache."""


def salt_for(
    key: Key | None, family: str, quality: str, clients: bytes, *, counts_only: bool = False
) -> bytes | None:
    """The JSON string to send as `cache_salt`, None to leave the body as it is.

    `clients` is the client's own `cache_salt` as raw JSON, empty if there is none: it parts requests further,
    never leads out of the tenant. `counts_only`: the request only counts tokens. Raises InvalidRequest where
    the engine's API has no way to say it.
    """
    tenant = "" if key is None or key.shares_cache or key.tenant == POOL else key.tenant
    if not tenant and quality == EXACT and not clients:
        return None
    if family == _UNTOUCHED or counts_only:
        return None
    if family not in _SALTED:
        what = f"the tenant {tenant!r} apart" if tenant else f"kv_quality {quality!r}"
        raise InvalidRequest(
            f"This endpoint of the engine has no way to keep {what} from other KV; use /v1/chat/completions"
            " instead, or a key that shares its cache.",
            code="isolation_unsupported",
        )
    own = _text(clients) if clients else ""
    if own:
        if not tenant and quality == EXACT and not own.startswith(MARK):
            return None
        tenant = f"{tenant}+salt:{own}"
    salt = CacheSalt(tenant, quality).encode()
    return None if salt is None else msgspec.json.encode(salt)


def _text(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        if raw.strip() == b"null":
            return ""
        raise InvalidRequest(
            "cache_salt must be a string.", code="invalid_type", param="cache_salt"
        ) from None
