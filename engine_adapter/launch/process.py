"""Processes that cannot outlive their parent, each a process group of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from engine_adapter.launch.command import Command

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 16 << 20
"""A log longer than this is set aside as `<name>.1` when its worker starts again."""


def die_with_parent(death_signal: signal.Signals, parent: int) -> None:
    """Have the kernel send this process `death_signal` when its parent thread ends (Linux; no-op elsewhere).

    `parent` is the parent's pid as the parent knows it: if it is gone already, the signal is sent at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), death_signal)


def spawn(command: Command, log: Path) -> subprocess.Popen[bytes]:
    """Start a worker whose output is appended to `log`. Call from the main thread only: its end is the
    worker's end, by SIGKILL."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    parent = os.getpid()
    with log.open("ab") as output:
        return subprocess.Popen(
            command.argv,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Safe here: the supervisor has one thread.
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
        )


def fork(run: Callable[[], None]) -> int:
    """Run `run` in a child process and return its pid. The child ends when `run` returns, or with SIGTERM
    when the parent does. Call it while there is one thread and no running event loop."""
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for caught in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(caught, signal.SIG_DFL)
        die_with_parent(signal.SIGTERM, parent)
        run()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group led by `pid`; nothing happens if it is empty."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
