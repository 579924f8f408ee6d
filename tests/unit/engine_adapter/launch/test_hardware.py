from __future__ import annotations

from pathlib import Path

import pytest

from engine_adapter.launch.hardware import Hardware, free_memory

MEMINFO = "MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:    1000 kB\n"


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [(None, None, 1_024_000), ("max", "5", 1_024_000), ("700000", "200000", 500_000), ("10", "20", 0)],
)
def test_free_memory_is_bounded_by_the_container(
    tmp_path: Path, limit: str | None, used: str | None, free: int
) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit is not None and used is not None:
        (tmp_path / "memory.max").write_text(limit + "\n")
        (tmp_path / "memory.current").write_text(used + "\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == free


def test_a_system_without_proc_still_has_memory(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "absent") > 0


def test_this_machine_has_something_to_offer() -> None:
    found = Hardware.detect()
    assert found.cores >= 1
    assert found.free_bytes > 0
    assert found.gpus >= 0
