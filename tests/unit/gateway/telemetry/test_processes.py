from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine_adapter.api import WorkerInfo
from gateway.relay.accounting import Accounting
from gateway.routing.fleet import Fleet
from gateway.telemetry import processes
from gateway.telemetry.processes import ProcessFiles, clear
from gateway.telemetry.snapshot import HistogramData, Snapshot, Sources, merge, take
from gateway.transport.counts import StreamCounts, StreamSources

FIRST, SECOND = os.getpid(), os.getppid()
"""Two processes that are alive."""


def busy(requests: int, in_flight: int) -> Sources:
    fleet = Fleet()
    fleet.update([WorkerInfo("w0", "http://127.0.0.1:1")])
    fleet.workers["w0"].in_flight = in_flight
    accounting = Accounting(open=range(in_flight))
    series = accounting.of("w0", "small")
    series.ends["ok"] += requests
    series.statuses[200] += requests
    for _ in range(requests):
        series.ttft.observe(0.02)
    accounting.refusals["queue_full"] += 1
    return Sources(accounting, fleet)


def process(folder: Path, source: Sources, pid: int) -> ProcessFiles:
    """A gateway process that is not this one."""
    return ProcessFiles(folder, lambda: msgspec.structs.replace(take(source), pid=pid, processes=[pid]))


def requests(snapshot: Snapshot) -> int:
    return sum(series.ends["ok"] for series in snapshot.series)


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_alone_without_a_folder() -> None:
    files = ProcessFiles(None, lambda: take(busy(3, 1)))
    files.write()
    files.close()
    assert requests(files.totals()) == 3


def test_each_process_answers_for_all(tmp_path: Path) -> None:
    first, second = process(tmp_path, busy(3, 1), FIRST), process(tmp_path, busy(4, 2), SECOND)
    first.write()
    second.write()
    for files in (first, second):
        total = files.totals()
        assert requests(total) == 7
        assert (total.active, total.workers["w0"].in_flight) == (3, 3)
        assert total.workers["w0"].health == {"unknown": 2}
        assert total.refusals == {"queue_full": 2}
        assert sum(total.series[0].ttft.counts) == 7
        assert sorted(total.processes) == sorted([FIRST, SECOND])


def test_own_numbers_are_live(tmp_path: Path) -> None:
    source = busy(3, 0)
    files = process(tmp_path, source, FIRST)
    files.write()
    source.accounting.of("w0", "small").ends["ok"] += 1
    assert requests(files.totals()) == 4


def test_counters_of_an_ended_process_stay_and_its_gauges_go(tmp_path: Path) -> None:
    first, second = process(tmp_path, busy(3, 1), FIRST), process(tmp_path, busy(4, 2), SECOND)
    second.close()
    total = first.totals()
    assert requests(total) == 7
    assert (total.active, total.workers["w0"].in_flight, total.processes) == (1, 1, [FIRST])


def test_gauges_of_a_process_that_is_stuck_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = process(tmp_path, busy(3, 1), FIRST), process(tmp_path, busy(4, 2), SECOND)
    second.write()
    monkeypatch.setattr(processes, "STALE_AFTER", -1.0)
    total = first.totals()
    assert (requests(total), total.active, total.processes) == (7, 1, [FIRST])


def test_gauges_of_a_process_that_was_killed_go_at_once(tmp_path: Path) -> None:
    first, second = process(tmp_path, busy(3, 1), FIRST), process(tmp_path, busy(4, 2), dead_pid())
    second.write()
    total = first.totals()
    assert (requests(total), total.active, total.processes) == (7, 1, [FIRST])


def test_files_of_the_dead_are_folded_into_one(tmp_path: Path) -> None:
    gone = dead_pid()
    for count in (1, 2, 3):
        process(tmp_path, busy(count, 5), gone).write()
    process(tmp_path, busy(4, 1), os.getpid()).write()
    for _ in range(2):
        files = process(tmp_path, busy(10, 1), os.getppid())
        total = files.totals()
        assert requests(total) == 20
        assert total.active == 2
        assert len(list(tmp_path.glob("metrics-*"))) == 2


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    files = process(tmp_path, busy(3, 1), FIRST)
    (tmp_path / "metrics-9-9.msgpack").write_bytes(b"\xc1")
    assert requests(files.totals()) == 3


def test_a_new_gateway_starts_from_nothing(tmp_path: Path) -> None:
    process(tmp_path, busy(3, 1), FIRST).close()
    clear(tmp_path)
    assert requests(process(tmp_path, busy(4, 1), SECOND).totals()) == 4


def test_merging_changes_no_argument() -> None:
    first, second = take(busy(1, 1)), take(busy(2, 2))
    before = msgspec.msgpack.encode([first, second])
    merge(first, [second, second])
    assert msgspec.msgpack.encode([first, second]) == before


def test_histograms_of_different_buckets_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="different buckets"):
        HistogramData((1.0,), [0, 0], 0.0).add(HistogramData((2.0,), [0, 0], 0.0))


def test_streams_of_all_processes_add_up(tmp_path: Path) -> None:
    def streaming(opened: int, running: int) -> Sources:
        source = busy(0, 0)
        counts = StreamCounts()
        counts.opened["resumable"] = opened
        source.streams = StreamSources(counts, lambda: {"running": running})
        return source

    first, second = process(tmp_path, streaming(3, 1), FIRST), process(tmp_path, streaming(4, 2), SECOND)
    second.write()
    total = first.totals()
    assert total.stream_counts["opened"] == {"resumable": 7}
    assert total.stream_gauges == {"running": 3}
    second.close()
    total = first.totals()
    assert total.stream_counts["opened"] == {"resumable": 7}
    assert total.stream_gauges == {"running": 1}
