"""What the control plane works on: the live objects of one gateway process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gateway.access.keys import KeyRing
from gateway.relay.membership import Membership
from gateway.relay.settings import RelaySettings
from gateway.routing.explain import Explanation
from gateway.telemetry.families import release
from gateway.telemetry.metrics import Exposition
from gateway.telemetry.settings import TelemetrySettings
from gateway.transport.calls import Calls
from gateway.transport.library import Library


class Explains(Protocol):
    """What the control plane asks of the router."""

    def explain(self, limit: int = 100) -> list[Explanation]: ...


@dataclass(slots=True)
class GatewayContext:
    """One per process. Only `draining` changes after the start."""

    membership: Membership
    router: Explains
    exposition: Exposition
    keyring: KeyRing | None = None
    """None: no keys are asked for."""
    relay: RelaySettings = field(default_factory=RelaySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything that the operator set, as plain nested values, for `/admin/settings`."""
    page: Path | None = None
    """Folder of the built chat page, see `pages.find_page`."""
    streams: Library | None = None
    """None: nothing is kept."""
    calls: Calls | None = None
    """None: nothing is answered, nor said about it."""
    draining: bool = False
    started: int = field(default_factory=lambda: int(time.time()))
    version: str = field(default_factory=release)
