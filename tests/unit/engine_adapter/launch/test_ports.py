from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine_adapter.launch.ports import (
    NoFreePortError,
    PortReservations,
    group_listens,
    is_free,
    port_owner,
)

HOST = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as server:
        yield server


def test_a_taken_port_is_skipped(tmp_path: Path, listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    assert not is_free(HOST, taken)
    with closing(PortReservations(tmp_path)) as ports:
        assert ports.take(HOST, taken) > taken


def test_two_instances_do_not_take_the_same_port(tmp_path: Path) -> None:
    with closing(PortReservations(tmp_path)) as one, closing(PortReservations(tmp_path)) as other:
        first = one.take(HOST, 19500)
        assert other.take(HOST, 19500) != first
        assert one.take(HOST, 19500) != first
        one.close()
        assert other.take(HOST, first) == first


def test_the_end_of_the_range_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with socket.create_server((HOST, 65535)), pytest.raises(NoFreePortError, match="port_base"):
        PortReservations(tmp_path).take(HOST, 65535)


def test_the_owner_of_a_port_is_named(listener: socket.socket) -> None:
    owner = port_owner(listener.getsockname()[1])
    assert owner is not None
    assert f"pid {os.getpid()}" in owner
    assert port_owner(1) is None


def test_a_stranger_on_the_port_is_recognised(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert group_listens(os.getpgrp(), port)
    assert not group_listens(_group_of_parent_session(), port)


def _group_of_parent_session() -> int:
    """A process group that exists, is not ours and does not hold our sockets."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (group := os.getpgid(int(entry.name))) not in (os.getpgrp(), 0):
            return group
    raise AssertionError("this machine runs nothing but this test")
