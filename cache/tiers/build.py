"""From settings to tiers. A tier's client library is imported only where the tier is set up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cache.settings import NO_QUOTAS, LinkSettings, Quotas, StoreSettings
from cache.tiers.pins import DirectoryPins
from cache.tiers.tier import Tier


class TierPlan(NamedTuple):
    """A tier and how the store is to use it."""

    tier: Tier
    link: LinkSettings
    policy: str = "lru"
    """For tiers with a capacity."""
    quotas: Quotas = NO_QUOTAS
    """What tenants and namespaces may have in a tier that bounds that."""
    pins: DirectoryPins | None = None
    """Where pins bind other processes too."""


def plan_tiers(
    settings: StoreSettings, chunk_bytes: int, tenant_of: Callable[[bytes], str] = lambda namespace: ""
) -> list[TierPlan]:
    """The slower tiers that the settings name, fastest first. `tenant_of` a namespace.

    Raises ValueError for settings that cannot work or whose client library is not installed, OSError if the
    file tier's directory cannot be made.
    """
    plans: list[TierPlan] = []
    if (pack := settings.memory.pack) is not None:
        from cache.tiers.memory import MemoryTier

        plans.append(TierPlan(MemoryTier(pack.bytes, chunk_bytes), pack.link, pack.policy))
    if (file := settings.file) is not None:
        from cache.tiers.file import FileTier

        tier = FileTier(file.path, file.bytes, fsync=file.fsync, quotas=file)
        plans.append(TierPlan(tier, file.link, file.policy, file, DirectoryPins(file.path, time.time())))
    if (valkey := settings.valkey) is not None:
        with _client_library("valkey"):
            from cache.tiers.valkey import ValkeyTier

        plans.append(TierPlan(ValkeyTier(valkey, tenant_of), valkey.link, quotas=valkey))
    if (object_ := settings.object) is not None:
        with _client_library("object"):
            from cache.tiers.object import ObjectTier

        plans.append(TierPlan(ObjectTier(object_), object_.link, quotas=object_))
    return plans


@contextmanager
def _client_library(section: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"kv.{section} needs {error.name}: pip install 'sluice[kv]' where the engine runs"
        ) from error
