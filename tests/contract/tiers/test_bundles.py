"""Frames that share a file: each comes and goes by itself, whatever happens to the file meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cache.frame import MAGIC
from cache.keys import ChunkKey
from cache.tiers import bundle
from cache.tiers.file import FileTier
from cache.tiers.tier import Fault, Frame
from tests.contract.tiers.frames import CHUNK_BYTES, Reader, deadline, frame, keys, payload

FRAME = CHUNK_BYTES + 512
Open = Callable[[], FileTier]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "kv"


@pytest.fixture
def open_tier(root: Path) -> Iterator[Open]:
    opened: list[FileTier] = []

    def open_() -> FileTier:
        opened.append(FileTier(str(root), 400 * FRAME))
        return opened[-1]

    yield open_
    for tier in opened:
        tier.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.arena.close()


def files(root: Path) -> dict[int, Path]:
    """What there is by inode, each with one of its names."""
    return {path.stat().st_ino: path for path in root.rglob("*.kv")}


def frames_in(root: Path) -> int:
    """Frames that are somewhere in the files, whether a name leads to them or not."""
    return sum(path.read_bytes().count(MAGIC) for path in files(root).values())


def several(count: int, start: int = 0) -> tuple[list[ChunkKey], list[Frame], list[bytes]]:
    wanted = keys(count, start=start)
    frames = [frame(key, number % 7) for number, key in enumerate(wanted)]
    return wanted, frames, [payload(number % 7).tobytes() for number in range(count)]


def one_after_the_other(root: Path) -> None:
    """As after the processes that use the directory ended: who opens it next is alone."""
    (root / "users").unlink()


def test_what_is_saved_together_is_one_file_and_one_read(
    root: Path, open_tier: Open, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = open_tier()
    wanted, frames, bodies = several(30)
    assert tier.put(frames, deadline()) == [None] * 30
    assert len(files(root)) == 1
    assert tier.used() == 30 * FRAME
    reads: list[int] = []
    preadv = os.preadv

    def counted(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0) -> int:
        reads.append(offset)
        return preadv(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", counted)
    assert reader.read(tier, wanted) == bodies
    assert len(reads) == 2, "what is in the file, and all of that"


def test_any_part_in_any_order_is_read(open_tier: Open, reader: Reader) -> None:
    tier = open_tier()
    wanted, frames, bodies = several(12)
    tier.put(frames[:5], deadline())
    tier.put(frames[5:9], deadline())
    tier.put(frames[9:10], deadline())
    for order in ([3, 4, 5, 6], [8, 7, 6, 0, 1, 2], [9, 10, 0, 11, 8], list(range(12)), [5, 5, 6]):
        expected = [bodies[number] if number < 10 else Fault.ABSENT for number in order]
        assert reader.read(tier, [wanted[number] for number in order]) == expected


def test_removed_ones_give_their_bytes_back_and_leave_the_others(
    root: Path, open_tier: Open, reader: Reader
) -> None:
    tier, other = open_tier(), open_tier()
    wanted, frames, bodies = several(30)
    tier.put(frames, deadline())
    gone = {0, 1, 2, 11, 29}
    assert other.delete([wanted[number] for number in gone], deadline()) == [FRAME] * len(gone)
    assert frames_in(root) == 25, "holes are where they were"
    assert tier.used() == 25 * FRAME
    expected = [Fault.ABSENT if number in gone else body for number, body in enumerate(bodies)]
    assert reader.read(tier, wanted) == expected
    assert {found.key for found in tier.scan(deadline())} == {
        key for number, key in enumerate(wanted) if number not in gone
    }
    assert tier.delete(wanted, deadline()).count(FRAME) == 25
    assert files(root) == {}
    assert tier.used() == 0


def test_one_that_is_written_again_leaves_its_old_place(root: Path, open_tier: Open, reader: Reader) -> None:
    tier = open_tier()
    wanted, frames, bodies = several(6)
    tier.put(frames, deadline())
    again = [frame(key, 9) for key in wanted[2:4]]
    assert tier.put(again, deadline()) == [None, None]
    assert tier.used() == 6 * FRAME
    assert frames_in(root) == 6
    assert reader.read(tier, wanted) == [*bodies[:2], *[payload(9).tobytes()] * 2, *bodies[4:]]


def test_frames_of_several_sizes_and_the_same_key_twice(open_tier: Open, reader: Reader) -> None:
    tier = open_tier()
    wanted = keys(5)
    long = frame(wanted[1], 1, config={"table": bytes(3000)})
    frames = [frame(wanted[0], 0), long, frame(wanted[2], 2), frame(wanted[3], 3), frame(wanted[0], 0)]
    assert tier.put(frames, deadline()) == [None] * 5
    assert tier.used() == 3 * FRAME + long.nbytes
    expected = [payload(number).tobytes() for number in range(4)]
    assert reader.read(tier, wanted) == [*expected, Fault.ABSENT]


def test_what_a_killed_writer_had_not_named_is_given_back(
    root: Path, open_tier: Open, reader: Reader
) -> None:
    tier = open_tier()
    wanted, frames, bodies = several(10)
    tier.put(frames, deadline())
    for found in list(root.rglob("*.kv")):
        if bytes.fromhex(found.parent.parent.name + found.parent.name + found.stem) in wanted[6:]:
            found.unlink()
    one_after_the_other(root)
    again = open_tier()
    assert again.used() == 6 * FRAME
    assert frames_in(root) == 6
    assert reader.read(again, wanted) == [*bodies[:6], *[Fault.ABSENT] * 4]


def test_a_damaged_list_is_a_miss_and_goes(root: Path, open_tier: Open, reader: Reader) -> None:
    tier = open_tier()
    wanted, frames, _ = several(4)
    tier.put(frames, deadline())
    path = next(root.rglob("*.kv"))
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    assert reader.read(tier, wanted) == [Fault.CORRUPT] * 4
    assert tier.contains(wanted, deadline()) == [Fault.CORRUPT] * 4
    assert tier.delete(wanted[:1], deadline()) == [0]
    one_after_the_other(root)
    again = open_tier()
    assert again.used() == 0
    assert files(root) == {}


def test_a_damaged_frame_does_not_spoil_its_neighbours(root: Path, open_tier: Open, reader: Reader) -> None:
    tier = open_tier()
    wanted, frames, bodies = several(5)
    tier.put(frames, deadline())
    path = next(root.rglob("*.kv"))
    content = bytearray(path.read_bytes())
    stride = bundle.aligned(FRAME)
    content[bundle.BLOCK + 1 * stride + 600] ^= 4  # the second one's payload
    content[bundle.BLOCK + 3 * stride + 60] ^= 4  # the fourth one's head
    path.write_bytes(content)
    expected = [bodies[0], Fault.CORRUPT, bodies[2], Fault.CORRUPT, bodies[4]]
    assert reader.read(tier, wanted) == expected


def test_a_file_that_ends_too_early_is_torn_from_there_on(
    root: Path, open_tier: Open, reader: Reader
) -> None:
    tier = open_tier()
    wanted, frames, bodies = several(4)
    tier.put(frames, deadline())
    path = next(root.rglob("*.kv"))
    os.truncate(path, bundle.BLOCK + 2 * bundle.aligned(FRAME) + 1000)
    assert reader.read(tier, wanted) == [*bodies[:2], Fault.TORN, Fault.TORN]


def test_a_name_that_leads_to_a_file_without_its_frame(root: Path, open_tier: Open, reader: Reader) -> None:
    tier = open_tier()
    wanted, frames, bodies = several(3)
    tier.put(frames, deadline())
    (stranger,) = keys(1, start=9000)
    name = stranger.hex()
    os.makedirs(root / name[:32] / name[32:34], mode=0o700, exist_ok=True)
    os.link(next(root.rglob("*.kv")), root / name[:32] / name[32:34] / f"{name[34:]}.kv")
    assert reader.read(tier, [stranger, *wanted]) == [Fault.KEY, *bodies]
    assert stranger not in {found.key for found in tier.scan(deadline())}


def test_without_holes_or_hard_links_every_frame_has_its_own_file(
    root: Path, open_tier: Open, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_fallocate", None)
    tier = open_tier()
    wanted, frames, bodies = several(4)
    tier.put(frames, deadline())
    assert len(files(root)) == 4
    assert reader.read(tier, wanted) == bodies
    assert tier.delete(wanted, deadline()) == [FRAME] * 4


def test_files_of_single_frames_are_read_beside_bundles(
    root: Path, open_tier: Open, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a directory is that an earlier version has filled."""
    wanted, frames, bodies = several(8)
    with monkeypatch.context() as before:
        before.setattr(bundle, "_fallocate", None)
        open_tier().put(frames[:4], deadline())
    one_after_the_other(root)
    tier = open_tier()
    tier.put(frames[4:], deadline())
    assert len(files(root)) == 5
    assert tier.used() == 8 * FRAME
    assert reader.read(tier, wanted) == bodies
    assert {found.nbytes for found in tier.scan(deadline())} == {FRAME}


def test_many_more_than_a_file_takes(root: Path, open_tier: Open) -> None:
    tier, reader = open_tier(), Reader(400)
    wanted, frames, bodies = several(bundle.MOST + 40)
    assert tier.put(frames, deadline()) == [None] * len(frames)
    assert len(files(root)) == 2
    assert reader.read(tier, wanted) == bodies
    reader.arena.close()


def test_whoever_reads_while_others_write_and_remove_gets_whole_frames_or_none(open_tier: Open) -> None:
    writer, other, reader = open_tier(), open_tier(), Reader()
    wanted = keys(6)
    wholes = [{payload(seed + number).tobytes() for seed in range(3)} for number in range(6)]
    done = threading.Event()

    def write() -> None:
        for turn in range(60):
            frames = [frame(key, turn % 3 + number) for number, key in enumerate(wanted)]
            writer.put(frames[turn % 4 :], deadline())
            writer.delete(wanted[turn % 5 : turn % 5 + 2], deadline())
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        for number, answer in enumerate(reader.read(other, wanted)):
            assert isinstance(answer, Fault) or answer in wholes[number]
    thread.join()
    reader.arena.close()
