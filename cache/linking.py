"""From a tier and its settings to the store's end of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cache.codecs import registry
from cache.codecs.codec import refuse_holes
from cache.economy import Economy
from cache.ladder import Streamer, beside
from cache.lane import MakeLane
from cache.link import Link
from cache.namespaces import OpenNamespaces
from cache.policies.policy import make_policy
from cache.policies.quotas import QuotaPolicy
from cache.settings import Owner
from cache.tiers.build import TierPlan


def connected(
    namespaces: OpenNamespaces,
    economy: Economy,
    owners: Callable[[bytes], tuple[Owner, ...]],
    chunk_elements: int,
    plan: TierPlan,
    *,
    make_lane: MakeLane,
    clock: Callable[[], float],
) -> Link:
    """The link of a planned tier. `owners` of a key; `chunk_elements` are those of one chunk's KV.

    Raises ValueError for settings that cannot work.
    """
    tier = plan.tier
    codec = registry.make(plan.link.codec, plan.link.codec_config)
    refuse_holes(codec)
    if not codec.lossless:
        raise ValueError(
            f"tier {tier.name}: codec {codec.name} is lossy, and exact lookups take no lossy KV;"
            " give it to a namespace of another kind instead"
        )
    link = Link(tier, plan.link, codec, economy, clock, plan.policy, make_lane)
    link.quotas = plan.quotas
    link.pins = plan.pins
    if link.policy is not None and (plan.quotas.bound_tenants or plan.quotas.bound_namespaces):
        link.policy = QuotaPolicy(link.policy, partial(make_policy, plan.policy), plan.quotas.of, owners)
    if plan.link.stream_seconds is not None:
        if tier.capacity is not None:
            raise ValueError(
                f"tier {tier.name}: stream_seconds is for tiers that their own server bounds; the"
                " copies at other levels would not be counted here"
            )
        link.streamer = Streamer(namespaces.ladders, plan.link.stream_seconds, chunk_elements)
        link.beside = beside(namespaces.ladders)
    return link
