"""Processes under measurement: started on a core of their own, read from /proc, ended with their children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process:
    """A running command and its descendants."""

    def __init__(
        self, command: Sequence[str], *, core: int | None, log: Path, cwd: Path | None = None
    ) -> None:
        """`core` None: wherever the scheduler puts it."""
        self.log = log
        self.started = time.monotonic()
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [*([] if core is None else ["taskset", "-c", str(core)]), *command],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=cwd,
            )

    @property
    def pid(self) -> int:
        """Of the command itself: `taskset` becomes what it starts."""
        return self._popen.pid

    def cpu_seconds(self) -> float:
        """User and system time spent so far, descendants included.

        From the scheduler's nanoseconds: the kernel's user and system counters are sampled on its tick, and
        a load that runs on timers keeps step with the tick.
        """
        nanoseconds = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    nanoseconds += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        return nanoseconds / 1e9

    def rss_mb(self) -> float:
        """Resident memory; pages shared between processes count in each."""
        pages = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * _PAGE / 1e6

    def open_files(self) -> int:
        count = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                count += len(os.listdir(f"/proc/{pid}/fd"))
        return count

    def wait_for(self, url: str, limit: float = 30.0) -> float:
        """Seconds from the start until `url` answers 200. Raises RuntimeError with the log's end."""
        while time.monotonic() - self.started < limit and self._popen.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return time.monotonic() - self.started
            time.sleep(0.01)
        tail = self.log.read_bytes()[-500:].decode(errors="replace")
        raise RuntimeError(f"{url} does not answer; the log ends:\n{tail}")

    def stop(self) -> None:
        """End it and what it started, firmly after ten seconds."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGTERM)
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    def _tree(self) -> Iterator[int]:
        todo = [self._popen.pid]
        while todo:
            pid = todo.pop()
            yield pid
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    todo += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
