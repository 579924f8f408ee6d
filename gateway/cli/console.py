"""What `sluice serve` tells the person who started it: one URL, the workers' progress, a line to paste."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TextIO

from engine_adapter.api import WorkerInfo
from engine_adapter.launch.supervisor import Phase

_CLEAR_LINE = "\r\033[2K"
_REMIND_SECONDS = 30.0
"""Off a terminal, a start that stays in one phase is mentioned again after so long."""


class Console:
    """Plain lines; on a terminal the progress of a start rewrites its own line."""

    def __init__(self, url: str, *, keys: bool, out: TextIO | None = None) -> None:
        self._url = url
        self._keys = keys
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._line_open = False
        self._seen: dict[str, tuple[str, str]] = {}
        self._reminded: dict[str, float] = {}
        self._showed_example = False

    def opened(self, version: str) -> None:
        """The gateway listens."""
        self._say(f"Sluice {version} is at {self._url}")

    def without_workers(self) -> None:
        """Nothing can be answered until somebody adds one."""
        self._say("It has no workers yet: name some with --worker-url, or POST them to /admin/workers.")

    def worker(self, info: WorkerInfo, seconds: float) -> None:
        """A worker's state, message or age changed."""
        now = (info.state, info.message)
        before = self._seen.get(info.id)
        if info.state == "starting":
            self._starting(info, seconds, changed=now != before)
        elif now != before:
            self._settled(info, seconds)
        self._seen[info.id] = now

    def front(self, number: int, state: str, message: str) -> None:
        """A gateway process's state changed; that it runs is no news."""
        if message:
            self._say(f"{message} [{state}]")

    def phase(self, phase: Phase) -> None:
        """Everything is about to end."""
        self._say(
            {"draining": "Letting running answers finish...", "stopping": "Stopping."}.get(phase, phase)
        )

    def example(self, model: str | None) -> None:
        """A command that works when it is pasted into another shell; printed once."""
        if self._showed_example:
            return
        self._showed_example = True
        self._say("Try it in a browser, or paste:")
        self._say(f"  {curl_line(self._url, model, keys=self._keys)}")
        if self._keys:
            self._say("  (SLUICE_API_KEY holds a secret that `sluice key create` has printed)")

    def _starting(self, info: WorkerInfo, seconds: float, *, changed: bool) -> None:
        text = f"{info.id} ({info.model}): {info.message}"
        if self._live:
            self._out.write(f"{_CLEAR_LINE}{text} ... {seconds:.0f} s")
            self._out.flush()
            self._line_open = True
        elif changed or seconds - self._reminded.get(info.id, 0.0) >= _REMIND_SECONDS:
            self._reminded[info.id] = seconds
            self._say(f"{text} ... {seconds:.0f} s")

    def _settled(self, info: WorkerInfo, seconds: float) -> None:
        if info.state == "ready":
            self._say(f"{info.id} ({info.model}) is ready after {seconds:.0f} s")
            if info.kv_layer.startswith("off"):
                self._say(f"  {info.message}")
            self.example(info.model)
        elif info.state in ("backoff", "failed"):
            verb = "does not start" if info.state == "failed" else "has ended"
            self._say(f"{info.id} {verb}: {info.message}")
            self._say(f"  its log: {info.log}")

    def _say(self, text: str) -> None:
        if self._line_open:
            self._out.write(_CLEAR_LINE)
            self._line_open = False
        self._out.write(text + "\n")
        self._out.flush()


def curl_line(url: str, model: str | None, *, keys: bool) -> str:
    """A chat request for a shell; without a known model, the list of models."""
    auth = ' -H "Authorization: Bearer $SLUICE_API_KEY"' if keys else ""
    if model is None:
        return f"curl {url}/v1/models{auth}"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello! Who are you?"}]})
    return f"curl {url}/v1/chat/completions{auth} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
