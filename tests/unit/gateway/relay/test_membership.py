from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine_adapter.api import WorkerInfo, write_fleet
from gateway.relay.membership import Membership, MembershipError
from gateway.routing.fleet import Fleet


def info(number: int, **more: object) -> WorkerInfo:
    return WorkerInfo(id=f"w{number}", url=f"http://127.0.0.1:{9000 + number}", **more)  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_fleet(tmp_path / "fleet.json", [info(0), info(1)])
    return tmp_path / "fleet.json", tmp_path / "overrides.json"


def join(files: tuple[Path, Path]) -> Membership:
    return Membership(Fleet(), files[1], fleet_file=files[0])


def test_the_fleet_follows_its_file(files: tuple[Path, Path]) -> None:
    membership = join(files)
    assert list(membership.fleet.workers) == ["w0", "w1"]
    assert not membership.refresh()
    write_fleet(files[0], [info(1), info(2)])
    assert membership.refresh()
    assert list(membership.fleet.workers) == ["w1", "w2"]


@pytest.mark.parametrize(
    "broken", ["{", '{"workers": [{"id": "a"}]}', '{"workers": [{"id": "w9", "url": "ftp://x"}]}']
)
def test_a_broken_file_keeps_the_last_good_fleet(files: tuple[Path, Path], broken: str) -> None:
    membership = join(files)
    files[0].write_text(broken)
    assert not membership.refresh()
    assert list(membership.fleet.workers) == ["w0", "w1"]
    files[0].unlink()
    assert not membership.refresh()
    assert list(membership.fleet.workers) == ["w0", "w1"]
    write_fleet(files[0], [info(2)])
    assert membership.refresh()
    assert list(membership.fleet.workers) == ["w2"]


def test_changes_reach_every_process(files: tuple[Path, Path]) -> None:
    here, there = join(files), join(files)
    here.drain("w0")
    here.add(info(7))
    here.remove("w1")
    assert here.drained == {"w0"}
    assert there.refresh()
    assert there.drained == {"w0"}
    assert list(there.fleet.workers) == ["w0", "w7"]

    there.undrain("w0")
    assert here.refresh()
    assert here.drained == frozenset()
    assert list(join(files).fleet.workers) == ["w0", "w7"]


def test_a_removed_worker_may_come_back(files: tuple[Path, Path]) -> None:
    membership = join(files)
    membership.drain("w0")
    membership.remove("w0")
    write_fleet(files[0], [info(0, generation=3), info(1)])
    membership.refresh()
    assert list(membership.fleet.workers) == ["w1"]
    membership.add(info(0))
    assert set(membership.fleet.workers) == {"w0", "w1"}
    assert not membership.is_draining("w0")


def test_the_supervisor_may_drain_too(files: tuple[Path, Path]) -> None:
    membership = join(files)
    write_fleet(files[0], [info(0, state="draining"), info(1)])
    membership.refresh()
    assert membership.is_draining("w0")
    assert not membership.is_draining("w1")
    assert not membership.is_draining("w5")


def test_what_does_not_fit_is_refused_and_changes_nothing(files: tuple[Path, Path]) -> None:
    membership = join(files)
    for change in (membership.drain, membership.undrain, membership.remove):
        with pytest.raises(MembershipError, match="no worker w5"):
            change("w5")
    with pytest.raises(MembershipError, match="w0 already"):
        membership.add(info(0))
    with pytest.raises(MembershipError, match="is not a URL"):
        membership.add(WorkerInfo(id="w5", url="gopher://x"))
    assert not files[1].exists()
    assert list(membership.fleet.workers) == ["w0", "w1"]


def test_broken_overrides_keep_the_last_good_ones(files: tuple[Path, Path]) -> None:
    membership = join(files)
    membership.drain("w0")
    files[1].write_text('{"drained": 3}')
    os.utime(files[1], ns=(1, 1))
    assert not membership.refresh()
    assert membership.drained == {"w0"}


def test_fixed_workers_need_no_file(tmp_path: Path) -> None:
    membership = Membership(Fleet(), tmp_path / "overrides.json", workers=[info(0)])
    assert list(membership.fleet.workers) == ["w0"]
    membership.add(info(1))
    assert list(membership.fleet.workers) == ["w0", "w1"]
