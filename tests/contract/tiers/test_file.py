"""What the file tier promises beyond the contract: many processes, any of which may be killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cache.tiers.file import FileTier
from cache.tiers.tier import Fault
from tests.contract.tiers.frames import CHUNK_BYTES, Reader, deadline, frame, keys, payload

FRAME = CHUNK_BYTES + 512
WRITER = textwrap.dedent("""
    import itertools, sys
    from cache.tiers.file import FileTier
    from tests.contract.tiers.frames import deadline, frame, keys
    tier = FileTier(sys.argv[1], int(sys.argv[2]))
    for start in itertools.count(int(sys.argv[3]), 1000):
        wanted = keys(4, start=start)
        answers = tier.put([frame(key, 1) for key in wanted], deadline())
        if None not in answers:
            tier.delete(wanted, deadline())
            tier.delete([found.key for found in itertools.islice(tier.scan(deadline()), 8)], deadline())
        print(tier.used(), flush=True)
""")


def on_disk(root: Path) -> int:
    """Bytes of all frames that have a name."""
    return FRAME * len(list(root.rglob("*.kv")))


def test_the_bound_holds_while_processes_write_and_die(tmp_path: Path) -> None:
    root, capacity = tmp_path / "kv", 40 * FRAME
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root), str(capacity), str(10_000_000 * n)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        for n in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(30):
            assert int(writer.stdout.readline()) <= capacity
    for writer in writers:
        writer.kill()
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()
    assert on_disk(root) <= capacity
    tier = FileTier(str(root), capacity)
    assert tier.used() == on_disk(root)
    assert not list((root / "tmp").iterdir())
    found = [item.key for item in tier.scan(deadline())]
    assert len(found) * FRAME == tier.used()
    reader = Reader()
    assert set(reader.read(tier, found[:40])) <= {payload(1).tobytes()}
    reader.arena.close()
    tier.close()


def test_eviction_by_one_process_does_not_disturb_another(tmp_path: Path) -> None:
    a, b = (FileTier(str(tmp_path / "kv"), 40 * FRAME) for _ in range(2))
    wanted = keys(10)
    a.put([frame(key, 1) for key in wanted], deadline())
    assert a.used() == b.used() == 10 * FRAME
    assert b.delete(wanted[:5], deadline()) == [FRAME] * 5
    assert a.delete(wanted[:5], deadline()) == [Fault.ABSENT] * 5
    assert a.used() == 5 * FRAME
    reader = Reader()
    assert reader.read(a, wanted)[:5] == [Fault.ABSENT] * 5
    reader.arena.close()
    a.close()
    b.close()


def test_a_read_tells_other_processes_that_a_frame_is_in_use(tmp_path: Path) -> None:
    tier = FileTier(str(tmp_path / "kv"), 40 * FRAME)
    (key,) = keys(1)
    tier.put([frame(key, 1)], deadline())
    (path,) = (tmp_path / "kv").rglob("*.kv")
    os.utime(path, (1000.0, 1000.0))
    reader = Reader()
    reader.read(tier, [key])
    (found,) = tier.contains([key], deadline())
    assert not isinstance(found, Fault)
    assert found.used > time.time() - 1000
    reader.arena.close()
    tier.close()


def test_a_directory_that_vanished_is_a_fault(tmp_path: Path) -> None:
    root = tmp_path / "kv"
    tier = FileTier(str(root), 40 * FRAME)
    root.rename(tmp_path / "elsewhere")
    wanted = keys(2)
    assert tier.put([frame(key, 1) for key in wanted], deadline()) == [Fault.GONE] * 2
    assert tier.contains(wanted, deadline()) == [Fault.ABSENT] * 2
    assert list(tier.scan(deadline())) == []
    tier.close()


def test_files_and_directories_are_for_their_owner_alone(tmp_path: Path) -> None:
    tier = FileTier(str(tmp_path / "kv"), 40 * FRAME)
    tier.put([frame(key, 1) for key in keys(2)], deadline())
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "kv").rglob("*")} == {0}
    tier.close()


@pytest.mark.parametrize("given", [0, 100, 512, 700])
def test_what_is_not_in_the_page_cache_is_read_ahead_and_then_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int
) -> None:
    tier, reader = FileTier(str(tmp_path / "kv"), 40 * FRAME), Reader()
    wanted = keys(5)
    tier.put([frame(key, number) for number, key in enumerate(wanted)], deadline())
    advised: list[int] = []
    preadv = os.preadv

    def cold(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0) -> int:
        """A disk that has at most `given` bytes of a file at hand."""
        if flags and not given:
            raise BlockingIOError(errno.EAGAIN, "it would have to wait")
        if not flags:
            return preadv(fd, buffers, offset)
        part = memoryview(os.pread(fd, given, offset))
        for buffer in buffers:
            taken, part = part[: memoryview(buffer).nbytes], part[memoryview(buffer).nbytes :]
            memoryview(buffer)[: len(taken)] = taken
        return given

    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *_: advised.append(fd))
    assert reader.read(tier, wanted) == [payload(number).tobytes() for number in range(5)]
    assert len(advised) == (0 if given else 5)
    reader.arena.close()
    tier.close()
