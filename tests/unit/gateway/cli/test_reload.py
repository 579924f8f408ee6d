"""The list of workers that run elsewhere follows the settings file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.cli.reload import WorkersElsewhere
from gateway.config import Layer
from gateway.settings import load


class Watched:
    """A settings file that a test rewrites, what is read from it, and what is said about that."""

    def __init__(self, file: Path, environ: dict[str, str] | None = None) -> None:
        self.file = file
        self.said: list[str] = []
        self._version = 0
        self.write("engine: {worker_urls: [http://a:1]}")
        read = lambda: load(file, environ or {}, Layer())  # noqa: E731
        self._elsewhere = WorkersElsewhere(read(), file, read, self.said.append)

    def write(self, text: str) -> None:
        self.file.write_text(text)
        self._version += 1
        os.utime(self.file, ns=(self._version, self._version))

    def urls(self) -> list[str]:
        return [worker.url for worker in self._elsewhere()]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "sluice.yaml")


def test_workers_follow_the_file(watched: Watched) -> None:
    assert watched.urls() == ["http://a:1"]
    watched.write("engine: {worker_urls: [http://a:1, http://b:1]}")
    assert watched.urls() == ["http://a:1", "http://b:1"]
    assert watched.urls() == ["http://a:1", "http://b:1"]
    assert watched.said == [f"{watched.file} has changed; workers that run elsewhere: http://a:1, http://b:1"]


@pytest.mark.parametrize("text", ["engine: {worker_urls: [ftp://b]}", "engine: [", "engin: {}"])
def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_once(watched: Watched, text: str) -> None:
    watched.write(text)
    assert watched.urls() == watched.urls() == ["http://a:1"]
    (said,) = watched.said
    assert "cannot be used; the workers stay as they were" in said
    assert str(watched.file) in said
    watched.write("engine: {worker_urls: [http://c:1]}")
    assert watched.urls() == ["http://c:1"]


def test_a_file_that_is_gone_for_a_moment_changes_nothing(watched: Watched) -> None:
    watched.file.unlink()
    assert watched.urls() == ["http://a:1"]
    watched.write("engine: {worker_urls: [http://b:1]}")
    assert watched.urls() == ["http://b:1"]


def test_other_settings_wait_for_a_restart_and_that_is_told(watched: Watched) -> None:
    watched.write("engine: {worker_urls: [http://b:1]}\nrouting: {policy: random}")
    assert watched.urls() == ["http://b:1"]
    assert watched.said[1:] == ["these settings have changed too and wait for a restart: routing.policy"]


def test_the_environment_still_wins_over_the_file(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "sluice.yaml", {"SLUICE_ENGINE__WORKER_URLS": '["http://x:1"]'})
    watched.write("engine: {worker_urls: [http://b:1]}")
    assert watched.urls() == ["http://x:1"]
