"""What every tier promises."""

from __future__ import annotations

import threading
import time

from cache.tiers.tier import Fault, Found, Tier
from tests.contract.tiers.conftest import MakeTier
from tests.contract.tiers.frames import CHUNK_BYTES, Reader, deadline, frame, keys, payload


def test_what_was_put_is_got(tier: Tier, reader: Reader) -> None:
    wanted = keys(5)
    assert tier.put([frame(key, seed) for seed, key in enumerate(wanted)], deadline()) == [None] * 5
    assert reader.read(tier, wanted) == [payload(seed).tobytes() for seed in range(5)]


def test_answers_come_in_the_order_of_the_keys(tier: Tier, reader: Reader) -> None:
    wanted = keys(4)
    tier.put([frame(wanted[1], 1), frame(wanted[3], 3)], deadline())
    answers = reader.read(tier, wanted)
    assert answers == [Fault.ABSENT, payload(1).tobytes(), Fault.ABSENT, payload(3).tobytes()]
    there = tier.contains(wanted, deadline())
    assert [isinstance(answer, Found) for answer in there] == [False, True, False, True]
    assert [answer.nbytes for answer in there if isinstance(answer, Found)] == [
        frame(wanted[1], 1).nbytes
    ] * 2


def test_a_second_put_replaces_the_first(tier: Tier, reader: Reader) -> None:
    (key,) = keys(1)
    tier.put([frame(key, 1)], deadline())
    assert tier.put([frame(key, 2)], deadline()) == [None]
    assert reader.read(tier, [key]) == [payload(2).tobytes()]
    assert [found.key for found in tier.scan(deadline())] == [key]


def test_deleted_frames_are_absent_and_counted(tier: Tier, reader: Reader) -> None:
    wanted = keys(3)
    tier.put([frame(key, 7) for key in wanted], deadline())
    size = frame(wanted[0], 7).nbytes
    assert tier.delete([wanted[0], wanted[1], wanted[0]], deadline()) in (
        [size, size, Fault.ABSENT],
        [size, size, size],  # a store that deletes all at once cannot tell
    )
    assert reader.read(tier, wanted) == [Fault.ABSENT, Fault.ABSENT, payload(7).tobytes()]


def test_scan_meets_every_frame_with_its_size(tier: Tier) -> None:
    wanted = keys(20) + keys(3, tenant="other")
    assert tier.put([frame(key, 1) for key in wanted], deadline()) == [None] * 23
    found = list(tier.scan(deadline()))
    assert {item.key for item in found} == set(wanted)
    assert {item.nbytes for item in found} == {frame(wanted[0], 1).nbytes}


def test_after_the_deadline_the_answer_is_a_fault(tier: Tier, reader: Reader) -> None:
    wanted = keys(2)
    past = time.monotonic() - 1
    put = tier.put([frame(key, 1) for key in wanted], past)
    assert tier.name == "packed" or put == [Fault.TIMEOUT] * 2
    got = reader.read(tier, wanted, seconds=-1)
    assert all(isinstance(answer, Fault) or answer == payload(1).tobytes() for answer in got)


def test_heads_of_any_length_come_back(tier: Tier, reader: Reader) -> None:
    """A codec's configuration may make the head longer than one block."""
    (key,) = keys(1)
    long = frame(key, 3, config={"table": bytes(3000)})
    assert len(long.head) > 3000
    tier.put([long], deadline())
    assert reader.read(tier, [key]) == [payload(3).tobytes()]


def test_a_bounded_tier_says_full_and_takes_more_after_a_delete(tier: Tier, reader: Reader) -> None:
    if tier.capacity is None:
        assert tier.used() == 0
        return
    wanted = keys(200)
    answers = tier.put([frame(key, 1) for key in wanted], deadline())
    fitted = answers.count(None)
    assert 0 < fitted < 200
    assert answers == [None] * fitted + [Fault.FULL] * (200 - fitted)
    assert tier.used() <= tier.capacity
    tier.delete(wanted[:2], deadline())
    assert tier.put([frame(wanted[-1], 9)], deadline()) == [None]
    assert reader.read(tier, [wanted[-1]]) == [payload(9).tobytes()]


def test_shared_tiers_show_one_process_what_another_stored(make_tier: MakeTier, reader: Reader) -> None:
    first, second = make_tier(), make_tier()
    (key,) = keys(1)
    first.put([frame(key, 1)], deadline())
    if first.shared:
        assert reader.read(second, [key]) == [payload(1).tobytes()]
        second.delete([key], deadline())
        assert reader.read(first, [key]) == [Fault.ABSENT]
    else:
        assert reader.read(second, [key]) == [Fault.ABSENT]


def test_readers_see_whole_frames_while_writers_replace_them(make_tier: MakeTier) -> None:
    """The S3 server of the tests truncates before it writes, as S3 itself never does: there, faults are seen
    too."""
    writer, other = make_tier(), make_tier()
    if not writer.shared:
        other = writer
    (key,) = keys(1)
    writer.put([frame(key, 0)], deadline())
    done = threading.Event()

    puts: list[Fault | None] = []

    def write() -> None:
        for seed in range(40):
            puts.extend(writer.put([frame(key, seed % 3)], deadline()))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    reader = Reader()
    wholes = {payload(seed).tobytes() for seed in range(3)}
    seen = 0
    while not done.is_set() or not seen:
        (answer,) = reader.read(other, [key])
        assert answer in wholes or (writer.name == "s3" and isinstance(answer, Fault))
        seen += 1
    thread.join()
    assert writer.name == "s3" or puts == [None] * 40
    reader.arena.close()
    assert len(next(iter(wholes))) == CHUNK_BYTES
