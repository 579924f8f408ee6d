"""The parent process of a Sluice: starts workers and front processes, restarts them, and ends them in order.

One thread, one selector, no event loop, so that it may fork at any time. SIGTERM or SIGINT lets the front
processes finish their answers, then ends the workers; a second one ends everything at once.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from engine_adapter.api import WorkerInfo, write_fleet
from engine_adapter.launch.lifecycle import Action, Cause, Kill, Lifecycle, Spawn
from engine_adapter.launch.process import fork, signal_group
from engine_adapter.launch.settings import SupervisionSettings
from engine_adapter.launch.worker import SupervisedWorker, WorkerPlan

Phase = Literal["serving", "draining", "stopping"]
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EX_CONFIG = 78
"""Exit status of a process that cannot run as configured (sysexits.h): starting it again does not help."""
_HEARTBEAT = 1.0
"""Seconds after which the loop wakes at the latest, to report progress."""


class Observer(Protocol):
    """Told what happens, for the terminal."""

    def worker(self, info: WorkerInfo, seconds: float) -> None:
        """A worker's state or message; `seconds` since its process started."""

    def front(self, number: int, state: str, message: str) -> None:
        """A front process's state changed."""

    def phase(self, phase: Phase) -> None:
        """The whole moves on to its end."""


@dataclass(slots=True, eq=False)
class _Front:
    """One front process: a fork of this one that runs the gateway."""

    number: int
    run: Callable[[], None]
    life: Lifecycle
    pid: int | None = None
    reported: tuple[str, str] = ("", "")

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn():
                    self.pid = fork(self.run)
                case Kill(signal=number) if self.pid is not None:
                    signal_group(self.pid, number)

    def reaped(self, status: int, now: float) -> None:
        self.pid = None
        words = f"ended with status {status}" if status >= 0 else f"was ended by signal {-status}"
        cause = Cause(f"gateway process {self.number} {words}", permanent=status == EX_CONFIG)
        self.carry_out(self.life.exited(now, cause))


class Supervisor:
    """Runs `plans` as workers and `fronts` copies of `run_front`; tells the fleet file about the workers.

    `run_front` is given its number. `elsewhere` says, whenever it is asked, which workers somebody else runs:
    they are listed, not watched. Without a `fleet_file` of ours somebody else keeps that too.
    """

    def __init__(
        self,
        plans: Sequence[WorkerPlan],
        elsewhere: Callable[[], Sequence[WorkerInfo]],
        *,
        fronts: int,
        run_front: Callable[[int], None],
        settings: SupervisionSettings,
        front_settings: SupervisionSettings,
        fleet_file: Path | None,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = [SupervisedWorker.of(plan, settings) for plan in plans]
        self._elsewhere = elsewhere
        self._fronts = [
            _Front(number, self._as_front(run_front, number), Lifecycle(front_settings, probed=False))
            for number in range(fronts)
        ]
        self._fleet_file = fleet_file
        self._observer = observer
        self._clock = clock
        self._phase: Phase = "serving"
        self._exit_status = 0
        self._written: list[WorkerInfo] | None = None
        self._selector = selectors.DefaultSelector()
        self._signal_pair = socket.socketpair()

    def run(self) -> int:
        """Supervise until told to end; returns the exit status: 1 when nothing could be served."""
        with self._signals():
            now = self._clock()
            self._publish(now)
            for front in self._fronts:
                front.carry_out(front.life.start(now))
            for worker in self._workers:
                worker.carry_out(worker.life.start(now), now)
            try:
                while not self._finished():
                    self._wait()
                    self._reap()
                    self._tick()
            finally:
                self._kill_everything()
            self._publish(self._clock())
        return self._exit_status

    def _as_front(self, run_front: Callable[[int], None], number: int) -> Callable[[], None]:
        """What a forked child runs: it first lets go of the descriptors that only the supervisor needs."""

        def run() -> None:
            for worker in self._workers:
                worker.drop_probe()
            self._selector.close()
            for end in self._signal_pair:
                end.close()
            run_front(number)

        return run

    def _wait(self) -> None:
        now = self._clock()
        deadlines = [w.deadline for w in self._workers] + [f.life.deadline for f in self._fronts]
        timeout = max(0.0, min([now + _HEARTBEAT, *deadlines]) - now)
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._signal_pair[0]:
                self._read_signals()
            else:
                self._advance_probe(key.data)

    def _read_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._signal_pair[0].recv(256):
                if number in _ENDING:
                    self._end(at_once=self._phase != "serving")

    def _advance_probe(self, worker: SupervisedWorker) -> None:
        probe = worker.probe
        if probe is None:
            return
        healthy = probe.advance()
        if healthy is None:
            self._selector.modify(probe.socket, probe.wants, worker)
            return
        self._selector.unregister(probe.socket)
        worker.end_probe(healthy, self._clock())

    def _reap(self) -> None:
        while True:
            try:
                # Any child: as process 1 of a container we also inherit orphans.
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            status = os.waitstatus_to_exitcode(wait_status)
            now = self._clock()
            for worker in self._workers:
                if worker.pid == pid:
                    self._forget_probe(worker)
                    worker.reaped(status, now)
            for front in self._fronts:
                if front.pid == pid:
                    front.reaped(status, now)

    def _tick(self) -> None:
        now = self._clock()
        for front in self._fronts:
            front.carry_out(front.life.tick(now))
        for worker in self._workers:
            if worker.probe is not None and now >= worker.probe.deadline:
                self._forget_probe(worker)
                worker.end_probe(False, now)
            worker.carry_out(worker.life.tick(now), now)
            if probe := worker.begin_probe(now):
                self._selector.register(probe.socket, probe.wants, worker)
        # First what happened, then what follows from it.
        self._publish(now)
        self._advance_phase(now)

    def _advance_phase(self, now: float) -> None:
        if self._phase == "serving" and self._hopeless():
            self._exit_status = 1
            self._end()
        if self._phase == "draining" and all(front.life.over for front in self._fronts):
            self._enter("stopping")
            for worker in self._workers:
                worker.carry_out(worker.life.stop(now), now)

    def _hopeless(self) -> bool:
        """No worker ever came up and none will, or no front process will."""
        if self._fronts and all(front.life.state == "failed" for front in self._fronts):
            return True
        if not self._workers or self._elsewhere():
            return False
        return all(w.life.state == "failed" and not w.ever_ready for w in self._workers)

    def _end(self, at_once: bool = False) -> None:
        now = self._clock()
        if at_once:
            self._enter("stopping")
            for front in self._fronts:
                front.carry_out(front.life.kill())
            for worker in self._workers:
                worker.carry_out(worker.life.kill(), now)
            return
        self._enter("draining")
        for worker in self._workers:
            # Answers that are still running need it; but one that dies now is not replaced.
            worker.life.retire()
        for front in self._fronts:
            front.carry_out(front.life.stop(now))

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._observer.phase(phase)

    def _finished(self) -> bool:
        processes: list[SupervisedWorker | _Front] = [*self._workers, *self._fronts]
        return self._phase == "stopping" and all(p.pid is None and p.life.over for p in processes)

    def _publish(self, now: float) -> None:
        infos = [*(worker.info() for worker in self._workers), *self._elsewhere()]
        if infos != self._written and self._fleet_file is not None:
            write_fleet(self._fleet_file, infos)
            self._written = infos
        for worker, info in zip(self._workers, infos, strict=False):
            self._observer.worker(info, now - worker.started_at)
        for front in self._fronts:
            seen = (front.life.state, front.life.message)
            if seen != front.reported:
                front.reported = seen
                self._observer.front(front.number, *seen)

    def _forget_probe(self, worker: SupervisedWorker) -> None:
        if worker.probe is not None:
            self._selector.unregister(worker.probe.socket)
            worker.drop_probe()

    def _kill_everything(self) -> None:
        """Only after an unexpected error is there anything left to kill."""
        processes: list[SupervisedWorker | _Front] = [*self._workers, *self._fronts]
        for process in processes:
            if process.pid is not None:
                signal_group(process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn the signals we live on into bytes that the selector waits for."""
        reader, writer = self._signal_pair
        reader.setblocking(False)
        writer.setblocking(False)
        # A signal that is ignored on purpose (nohup) stays ignored.
        heard = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        wanted = (*heard, signal.SIGCHLD)
        before = [signal.signal(number, lambda *_: None) for number in wanted]
        earlier_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ)
        try:
            yield
        finally:
            self._selector.unregister(reader)
            signal.set_wakeup_fd(earlier_fd)
            for number, handler in zip(wanted, before, strict=True):
                signal.signal(number, handler)
            reader.close()
            writer.close()
            self._selector.close()
