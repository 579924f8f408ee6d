"""Policy names and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import MappingProxyType

from gateway.routing.assignment import UnknownPolicyError
from gateway.routing.estimate import ModelRates
from gateway.routing.policies.base import Policy
from gateway.routing.policies.least_load import LeastLoad
from gateway.routing.policies.lora import AdapterAffinity
from gateway.routing.policies.power_of_two import PowerOfTwo
from gateway.routing.policies.prefix import DeepestPrefix
from gateway.routing.policies.prefix_exact import DeepestConfirmedPrefix
from gateway.routing.policies.random_choice import RandomChoice
from gateway.routing.policies.round_robin import RoundRobin
from gateway.routing.policies.session import SessionAffinity
from gateway.routing.policies.ttft import TimeToFirstToken
from gateway.routing.settings import RoutingSettings

POLICIES: MappingProxyType[str, Callable[[RoutingSettings, Random, ModelRates], Policy]] = MappingProxyType(
    {
        "ttft": lambda settings, random, rates: TimeToFirstToken(settings.foresight, rates),
        "round_robin": lambda settings, random, rates: RoundRobin(),
        "random": lambda settings, random, rates: RandomChoice(random),
        "least_load": lambda settings, random, rates: LeastLoad(),
        "power_of_two": lambda settings, random, rates: PowerOfTwo(random),
        "session": lambda settings, random, rates: SessionAffinity(settings.session_load_factor),
        "prefix": lambda settings, random, rates: DeepestPrefix(settings.prefix_load_factor),
        "prefix_exact": lambda settings, random, rates: DeepestConfirmedPrefix(settings.prefix_load_factor),
        "lora": lambda settings, random, rates: AdapterAffinity(
            settings.lora_slots, settings.prefix_load_factor
        ),
    }
)


def make_policy(name: str, settings: RoutingSettings, random: Random, rates: ModelRates) -> Policy:
    """Raises UnknownPolicyError, which lists the names there are."""
    try:
        make = POLICIES[name]
    except KeyError:
        raise UnknownPolicyError(
            f"no routing policy is called {name!r}; there are {', '.join(sorted(POLICIES))}"
        ) from None
    return make(settings, random, rates)
