"""The supervisor with real processes: restarts, order at the end, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_adapter.api import read_fleet

PATIENCE = 30.0
Event = dict[str, Any]


class Supervised:
    """`supervised.py` running, its events one by one."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        program = Path(__file__).with_name("supervised.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(directory), json.dumps(options)], stdout=subprocess.PIPE
        )
        # A test that waits in vain is to fail, not to hang.
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()
        self.events: list[Event] = []

    def wait_for(self, wanted: Callable[[Event], bool]) -> Event:
        """The next event that `wanted` accepts; those before it are kept in `events`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: Event = json.loads(line)
            self.events.append(event)
            if wanted(event):
                return event
        raise AssertionError(f"it ended without that event; there were: {self.events}")

    def wait_for_state(self, state: str, worker: str = "worker-0") -> Event:
        return self.wait_for(lambda e: e.get("worker") == worker and e["state"] == state)

    def ended(self) -> int:
        """Its exit status, once it has ended; all remaining events are read."""
        assert self.process.stdout is not None
        self.events += [json.loads(line) for line in self.process.stdout]
        return self.process.wait()

    def numbers(self, word: str, worker: str = "worker-0") -> list[int]:
        """The `pid N` or `child N` lines of a worker's log."""
        log = (self.directory / f"{worker}.log").read_text()
        return [int(number) for number in re.findall(rf"^{word} (\d+)$", log, re.MULTILINE)]

    def close(self) -> None:
        self._watchdog.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Supervised] = []

    def begin(*workers: str, **options: Any) -> Supervised:
        running.append(Supervised(tmp_path, workers=workers, **options))
        return running[-1]

    yield begin
    for supervised in running:
        supervised.close()


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when process `pid` ends; None if it has ended already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def assert_ends(descriptor: int | None) -> None:
    if descriptor is None:
        return
    try:
        readable, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert readable, "the process is still there"
    finally:
        os.close(descriptor)


def test_a_worker_becomes_ready_and_the_fleet_file_says_so(start: Start, tmp_path: Path) -> None:
    supervised = start("steady", "steady")
    supervised.wait_for_state("ready", "worker-1")
    if not any(e.get("worker") == "worker-0" and e["state"] == "ready" for e in supervised.events):
        supervised.wait_for_state("ready", "worker-0")
    assert [worker.state for worker in read_fleet(tmp_path / "fleet.json")] == ["ready", "ready"]
    assert len({worker.url for worker in read_fleet(tmp_path / "fleet.json")}) == 2


def test_sigterm_drains_the_front_before_the_workers_end(start: Start) -> None:
    supervised = start("steady", fronts=1)
    supervised.wait_for_state("ready")
    worker = watch(supervised.numbers("pid")[0])
    supervised.process.send_signal(signal.SIGTERM)
    supervised.wait_for(lambda e: "front_drained" in e)
    assert worker is not None
    assert not select.select([worker], [], [], 0)[0], "the worker ended while answers could still run"
    assert supervised.ended() == 0
    assert_ends(worker)
    assert [e["phase"] for e in supervised.events if "phase" in e] == ["draining", "stopping"]


def test_a_worker_that_ignores_sigterm_is_killed(start: Start) -> None:
    supervised = start("stubborn", settings={"stop_grace": 0.3})
    supervised.wait_for_state("ready")
    worker = watch(supervised.numbers("pid")[0])
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.ended() == 0
    assert_ends(worker)


def test_a_second_signal_ends_everything_at_once(start: Start) -> None:
    supervised = start("stubborn", settings={"stop_grace": PATIENCE * 2})
    supervised.wait_for_state("ready")
    worker = watch(supervised.numbers("pid")[0])
    supervised.process.send_signal(signal.SIGTERM)
    supervised.wait_for_state("draining")
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.ended() == 0
    assert_ends(worker)


def test_a_crashed_worker_comes_back_with_a_new_generation(start: Start) -> None:
    supervised = start("flaky")
    backoff = supervised.wait_for_state("backoff")
    assert "ValueError: the model has a hole" in backoff["message"]
    assert supervised.wait_for_state("ready")["generation"] == 1


def test_what_a_dead_worker_started_is_ended_before_its_successor_starts(start: Start) -> None:
    supervised = start("parent")
    supervised.wait_for_state("ready")
    child = watch(supervised.numbers("child")[0])
    os.kill(supervised.numbers("pid")[0], signal.SIGKILL)
    assert_ends(child)
    assert supervised.wait_for_state("ready")["generation"] == 1


def test_a_worker_that_never_starts_is_given_up_with_its_reason(start: Start) -> None:
    supervised = start("broken", fronts=1, settings={"give_up_after": 3})
    failed = supervised.wait_for_state("failed")
    assert "status 3: ValueError: the model has a hole" in failed["message"]
    assert "given up after 3 failures" in failed["message"]
    assert supervised.ended() == 1
    assert len(supervised.numbers("pid")) == 3


def test_a_silent_worker_is_replaced(start: Start) -> None:
    supervised = start("mute", settings={"probe_timeout": 0.5, "unresponsive_seconds": 1.5})
    supervised.wait_for_state("ready")
    assert "answered no health probe" in supervised.wait_for_state("backoff")["message"]
    assert supervised.wait_for_state("ready")["generation"] == 1


def test_a_stranger_on_the_port_is_not_taken_for_the_worker(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        threading.Thread(target=_answer_everything, args=(stranger,), daemon=True).start()
        port = stranger.getsockname()[1]
        supervised = start("steady", port=port)
        assert "port was taken" in supervised.wait_for_state("backoff")["message"]
        ready = supervised.wait_for_state("ready")
        assert not ready["url"].endswith(f":{port}")
        stranger.shutdown(socket.SHUT_RDWR)


def _answer_everything(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def test_a_dead_front_is_replaced(start: Start) -> None:
    supervised = start("steady", fronts=1)
    first = supervised.wait_for(lambda e: "front_pid" in e)["front_pid"]
    os.kill(first, signal.SIGKILL)
    second = supervised.wait_for(lambda e: "front_pid" in e)["front_pid"]
    assert second != first


def test_no_process_outlives_a_killed_supervisor(start: Start) -> None:
    supervised = start("steady", "stubborn", fronts=1)
    supervised.wait_for_state("ready", "worker-1")
    front = next((e["front_pid"] for e in supervised.events if "front_pid" in e), None)
    front = front or supervised.wait_for(lambda e: "front_pid" in e)["front_pid"]
    pids = [front, *supervised.numbers("pid", "worker-0"), *supervised.numbers("pid", "worker-1")]
    watched = [watch(pid) for pid in pids]
    supervised.process.kill()
    for descriptor in watched:
        assert_ends(descriptor)
