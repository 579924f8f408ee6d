"""A team averages its gradients; a team of one leaves them alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from engine_adapter.demo.team import ALONE, Team  # noqa: E402

_MEMBER = """
import os
import torch
from engine_adapter.demo.team import Team

team = Team.join(os.environ)
model = torch.nn.Linear(2, 1, bias=False)
model.weight.grad = torch.full((1, 2), 1.0 + 2 * team.rank)
numbers = team.mean(model, [4.0 * team.rank])
print(model.weight.grad.tolist(), numbers)
"""


def test_alone_nothing_changes() -> None:
    model = torch.nn.Linear(2, 1)
    model.weight.grad = torch.ones(1, 2)
    assert ALONE.mean(model, [3.0]) == [3.0]
    assert model.weight.grad.tolist() == [[1.0, 1.0]]
    assert Team.join({}) == ALONE


@pytest.mark.slow
def test_two_processes_agree_on_the_mean() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    members = [
        subprocess.Popen(
            [sys.executable, "-c", _MEMBER],
            env={**os.environ, **place, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [member.communicate(timeout=120)[0].strip() for member in members]
    assert outputs == ["[[2.0, 2.0]] [2.0]"] * 2
