from __future__ import annotations

from collections.abc import Callable

import pytest

from engine_adapter.api import WorkerInfo
from gateway.routing.fleet import Fleet

MakeFleet = Callable[..., Fleet]


@pytest.fixture
def make_fleet() -> MakeFleet:
    """A fleet of ready workers with the given ids, all serving the given models."""

    def make(*ids: str, models: tuple[str, ...] = ("m",)) -> Fleet:
        fleet = Fleet()
        fleet.update([WorkerInfo(id=i, url=f"http://127.0.0.1:{9000 + n}") for n, i in enumerate(ids)])
        for worker in fleet:
            worker.models = models
            worker.health = "ready"
        return fleet

    return make
