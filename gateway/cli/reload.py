"""Workers that run elsewhere may change while Sluice runs: they are read again with the settings file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine_adapter.api import WorkerInfo
from engine_adapter.launch.plan import workers_elsewhere
from gateway.config import SettingsError
from gateway.settings import Settings


class WorkersElsewhere:
    """The workers that the settings name, as of the latest good version of their file.

    Everything else that changed in the file waits for a restart, which is said once per version.
    """

    def __init__(
        self,
        settings: Settings,
        file: Path | None,
        read: Callable[[], Settings],
        say: Callable[[str], None],
    ) -> None:
        """`read` reads file, environment and flags again; without a `file` nothing is ever read again."""
        self._settings = settings
        self._file = file
        self._read = read
        self._say = say
        self._version = self._look()
        self._workers = workers_elsewhere(settings.engine)

    def __call__(self) -> list[WorkerInfo]:
        """The list as of now; looks whether the file changed."""
        version = self._look()
        if version is not None and version != self._version:
            self._version = version
            self._reload()
        return self._workers

    def _look(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _reload(self) -> None:
        try:
            fresh = self._read()
        except SettingsError as error:
            self._say(f"{self._file} has changed and cannot be used; the workers stay as they were: {error}")
            return
        self._workers = workers_elsewhere(fresh.engine)
        urls = ", ".join(fresh.engine.worker_urls) or "none"
        self._say(f"{self._file} has changed; workers that run elsewhere: {urls}")
        if waiting := sorted(_changed(self._settings.model_dump(), fresh.model_dump())):
            self._say(f"these settings have changed too and wait for a restart: {', '.join(waiting)}")


def _changed(old: dict[str, dict[str, object]], new: dict[str, dict[str, object]]) -> set[str]:
    """Names of the settings that differ, but for the workers' URLs."""
    names = {
        f"{section}.{name}"
        for section, values in old.items()
        for name, value in values.items()
        if new[section][name] != value
    }
    return names - {"engine.worker_urls"}
