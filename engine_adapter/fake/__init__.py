"""A deterministic engine with vLLM's HTTP surface and no model behind it.

For tests, load tests and anyone without a GPU: scripted timing, a finite prefix cache that publishes vLLM's
KV events, vLLM's metric names, and faults on demand. `python -m engine_adapter.fake --help` runs it as a
process; in a test:

    async with FakeEngine(FakeEngineConfig()) as engine:
        ...  # talk to engine.url
"""

from engine_adapter.fake.config import (
    FakeEngineConfig,
    KVEventsConfig,
    PrefixCacheConfig,
    ServedModel,
    Timing,
)
from engine_adapter.fake.engine import FakeEngine, run, serve
from engine_adapter.fake.faults import Fault, FaultError, parse_fault
from engine_adapter.fake.stats import Abort, Phase, Stats
from engine_adapter.fake.tokens import MIXED, WORDS, Vocabulary

__all__ = [
    "MIXED",
    "WORDS",
    "Abort",
    "FakeEngine",
    "FakeEngineConfig",
    "Fault",
    "FaultError",
    "KVEventsConfig",
    "Phase",
    "PrefixCacheConfig",
    "ServedModel",
    "Stats",
    "Timing",
    "Vocabulary",
    "parse_fault",
    "run",
    "serve",
]
