"""A supervisor in a process of its own, with scripted workers, telling events as JSON lines.

python supervised.py DIRECTORY '{"workers": ["steady"], "fronts": 1, "settings": {...}}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from engine_adapter.api import WorkerInfo
from engine_adapter.launch.command import Command, Endpoints
from engine_adapter.launch.output import WorkerOutput
from engine_adapter.launch.ports import PortReservations
from engine_adapter.launch.settings import SupervisionSettings
from engine_adapter.launch.supervisor import Supervisor
from engine_adapter.launch.worker import WorkerPlan

WORKER = Path(__file__).with_name("scripted_worker.py")


def tell(**event: object) -> None:
    os.write(1, json.dumps(event).encode() + b"\n")


class Teller:
    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str]] = {}

    def worker(self, info: WorkerInfo, seconds: float) -> None:
        if self._seen.get(info.id) != (info.state, info.message):
            self._seen[info.id] = (info.state, info.message)
            tell(
                worker=info.id,
                state=info.state,
                message=info.message,
                generation=info.generation,
                url=info.url,
            )

    def front(self, number: int, state: str, message: str) -> None:
        tell(front=number, state=state, message=message)

    def phase(self, phase: str) -> None:
        tell(phase=phase)


def front(_number: int) -> None:
    """Runs until SIGTERM, then drains for a moment."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    tell(front_pid=os.getpid())
    while not stop:
        signal.pause()
    time.sleep(0.2)
    tell(front_drained=os.getpid())
    time.sleep(0.5)  # the test looks now; the workers are told to end when this process has


def main() -> int:
    directory, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    ports = PortReservations(directory / "ports")
    plans = []
    for number, behaviour in enumerate(options["workers"]):
        port = options.get("port") or ports.take("127.0.0.1", 19600)

        def command(endpoints: Endpoints, behaviour: str = behaviour) -> Command:
            argv = (sys.executable, "-S", "-E", str(WORKER), str(endpoints.port), behaviour, str(directory))
            return Command(argv, dict(os.environ))

        plans.append(
            WorkerPlan(
                id=f"worker-{number}",
                model="scripted",
                endpoints=Endpoints("127.0.0.1", port),
                command=command,
                other_endpoints=lambda old: Endpoints(old.host, ports.take(old.host, old.port + 1)),
                output=WorkerOutput(directory / f"worker-{number}.log"),
            )
        )
    settings = SupervisionSettings(
        **{"probe_interval": 0.05, "backoff_initial": 0.05, **options.get("settings", {})}
    )
    return Supervisor(
        plans,
        list,
        fronts=options.get("fronts", 0),
        run_front=front,
        settings=settings,
        front_settings=SupervisionSettings(backoff_initial=0.05, stop_grace=5.0),
        fleet_file=directory / "fleet.json",
        observer=Teller(),
    ).run()


if __name__ == "__main__":
    sys.exit(main())
