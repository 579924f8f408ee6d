"""Reading what a worker process writes: how far its start has come, and its last words."""

from __future__ import annotations

from pathlib import Path

from engine_adapter.launch.kv import STATUS

PHASES: tuple[tuple[str, str], ...] = (
    ("Starting vLLM server on", "opening its port"),
    ("Loading weights took", "preparing the KV cache"),
    ("Starting to load model", "loading weights"),
    ("Initializing a V1 LLM engine", "starting the engine"),
    ("Resolved architecture", "reading the model's configuration"),
)
"""Lines of vLLM's log that mark a phase of its start, latest phase first."""

FIRST_PHASE = "importing the engine"
_TAIL_BYTES = 128 * 1024


class WorkerOutput:
    """The part of a worker's log file that its latest process has written."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._start = 0

    def mark(self) -> None:
        """A new process starts to write: forget what the earlier ones wrote."""
        self._start = self.log.stat().st_size if self.log.exists() else 0

    def lines(self) -> list[str]:
        """The last lines of the latest process, at most 128 KiB."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(min(self._start, size), size - _TAIL_BYTES))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            return []

    def kv_layer(self) -> str:
        """`on: ...` or `off: ...` as the worker said of its KV layer; empty if it said nothing."""
        said = (line.partition(STATUS)[2] for line in reversed(self.lines()) if STATUS in line)
        return next(said, "")

    def phase(self) -> str:
        """What the starting worker is busy with."""
        text = "\n".join(self.lines())
        return next((phase for mark, phase in PHASES if mark in text), FIRST_PHASE)
