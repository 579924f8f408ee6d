from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from engine_adapter.api import WorkerInfo
from gateway.access.keys import KeyRing, append_key, new_key
from gateway.api.app import create_app
from gateway.api.context import GatewayContext
from gateway.relay.accounting import Accounting
from gateway.relay.membership import Membership
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.telemetry.metrics import Exposition
from gateway.telemetry.snapshot import Sources, take

Visit = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def context(tmp_path: Path) -> GatewayContext:
    """Two workers, not probed yet, no keys."""
    fleet = Fleet()
    workers = [WorkerInfo(f"w{number}", f"http://127.0.0.1:{9000 + number}") for number in range(2)]
    membership = Membership(fleet, tmp_path / "overrides.json", workers=workers)
    router = Router(fleet)
    sources = Sources(Accounting(), fleet, routing=router.account)
    return GatewayContext(membership, router, Exposition(lambda: take(sources)))


@pytest.fixture
def secrets(context: GatewayContext, tmp_path: Path) -> dict[str, str]:
    """Switches keys on: an administrator's, an ordinary one, and one for a single model."""
    file = tmp_path / "keys.json"
    found = {}
    for name, models, admin in (
        ("admin", None, True),
        ("user", None, False),
        ("small-only", ("small",), False),
    ):
        found[name], record = new_key(name, models=models, admin=admin)
        append_key(file, record)
    context.keyring = KeyRing(file)
    return found


@pytest.fixture
def become_ready(context: GatewayContext) -> Callable[..., None]:
    """Plays the prober."""

    def ready(worker_id: str, *models: str, max_model_len: int = 512) -> None:
        worker = context.membership.fleet.workers[worker_id]
        worker.health, worker.models, worker.max_model_len = "ready", models or ("small",), max_model_len

    return ready


@pytest.fixture
def visit(context: GatewayContext) -> Visit:
    """HTTP clients of the control plane that seem to come from `client` and ask for `host`."""

    def visitor(
        secret: str = "", *, client: str = "127.0.0.1", host: str = "127.0.0.1:8080"
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        transport = httpx.ASGITransport(
            create_app(context), raise_app_exceptions=False, client=(client, 50000)
        )
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=headers)

    return visitor
