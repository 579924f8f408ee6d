"""`/admin/route/explain` and `/admin/settings`: why a request went where it went, and what is set."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from fastapi import APIRouter, Query

from gateway.api.context import GatewayContext

MASK = "***"
_SECRET = re.compile(
    r"(^|_)(key|keys|secret|token|password|credential|authorization|headers)$", re.IGNORECASE
)


def routes(context: GatewayContext) -> APIRouter:
    """`/admin/route/explain` and `/admin/settings`."""
    router = APIRouter(prefix="/admin", tags=["admin"])

    @router.get("/route/explain", summary="The latest routing decisions")
    async def explain(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """Newest first: policy, worker, why, the predicted and the observed time to first token."""
        now = time.monotonic()
        decisions = [asdict(explanation) for explanation in context.router.explain(limit)]
        for decision in decisions:
            decision["seconds_ago"] = round(now - decision.pop("at"), 3)
        return {"decisions": decisions}

    @router.get("/settings", summary="What is set")
    async def settings() -> dict[str, Any]:
        """The settings of this process; secrets are masked."""
        masked: dict[str, Any] = mask(context.settings)
        return masked

    return router


def mask(value: Any, name: str = "") -> Any:
    """The same values with every secret covered: fields that are named like one, passwords in URLs."""
    if isinstance(value, Mapping):
        return {key: mask(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return _mask_arguments([mask(inner, name) for inner in value])
    if isinstance(value, str):
        if value and _SECRET.search(name):
            return MASK
        if "@" in value and "://" in value:
            return _without_password(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _mask_arguments(values: list[Any]) -> list[Any]:
    """Engine flags are a list of words: cover what follows `--api-key`, and what `--api-key=` holds."""
    masked: list[Any] = []
    flag = ""
    for value in values:
        word = value if isinstance(value, str) else ""
        name, separator, _ = word.partition("=")
        if flag and not word.startswith("--"):
            value = MASK
        elif separator and _is_secret_flag(name):
            value = f"{name}={MASK}"
        flag = word if _is_secret_flag(word) else ""
        masked.append(value)
    return masked


def _is_secret_flag(word: str) -> bool:
    return word.startswith("--") and _SECRET.search(word.removeprefix("--").replace("-", "_")) is not None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{MASK}@{host}"))
