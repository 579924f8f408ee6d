"""Who may use the control plane: a key where keys are asked for, an administrator's for `/admin`.

Without keys `/admin` is for this machine only. A page in a browser on this machine is not this machine:
its requests come from loopback too, so a foreign origin or host name is refused (cross-site requests, DNS
rebinding), and so is what a proxy passed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import Request

from gateway.access.keys import Key
from gateway.access.settings import is_loopback
from gateway.api.context import GatewayContext
from gateway.errors import AuthenticationFailed, PermissionDenied

Check = Callable[[Request], Awaitable[Key | None]]

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def presented_key(context: GatewayContext, request: Request) -> Key | None:
    """The known key that a request carries, if any; never raises."""
    if context.keyring is None:
        return None
    authorization = request.headers.get("authorization")
    x_api_key = request.headers.get("x-api-key")
    return context.keyring.check(
        authorization.encode("latin-1") if authorization is not None else None,
        x_api_key.encode("latin-1") if x_api_key is not None else None,
    )


def key_check(context: GatewayContext) -> Check:
    """A dependency that lets known keys through, and everybody where no keys are asked for."""

    async def check(request: Request) -> Key | None:
        if context.keyring is None:
            return None
        key = presented_key(context, request)
        if key is None:
            if "authorization" in request.headers or "x-api-key" in request.headers:
                raise AuthenticationFailed("Incorrect API key provided, or the key was revoked.")
            raise AuthenticationFailed(
                "No API key provided. Send it as `Authorization: Bearer YOUR_KEY`.", code="missing_api_key"
            )
        return key

    return check


def admin_check(context: GatewayContext) -> Check:
    """A dependency that lets administrators through."""
    known = key_check(context)

    async def check(request: Request) -> Key | None:
        if context.keyring is None:
            _must_be_local(request)
            return None
        key = await known(request)
        if key is None or not key.admin:
            raise PermissionDenied(
                "This API key has no admin rights; make one with `sluice key create --admin`."
            )
        return key

    return check


def _must_be_local(request: Request) -> None:
    host = urlsplit(f"//{request.headers.get('host', '')}")
    origin = request.headers.get("origin")
    if (
        request.client is None
        or not is_loopback(request.client.host)
        or not is_loopback(host.hostname or "")
        or any(name in request.headers for name in _FORWARDED)
    ):
        raise PermissionDenied(
            "Without API keys, /admin answers to this machine only; "
            "to use it from elsewhere, set up keys (`sluice key create --admin NAME`)."
        )
    if origin is not None and urlsplit(origin).netloc != host.netloc:
        raise PermissionDenied(f"Pages of {origin} may not use /admin.")
