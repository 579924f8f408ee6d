"""A lossy link between two network namespaces, with the stream lab's own model of delay, loss and rate.

    python -m loadtests.stream.emulator NAMESPACE_A NAMESPACE_B

Needs root and /dev/net/tun, but no kernel module for traffic control. One TUN device is made in each
namespace; this process holds both ends and passes the packets on when they are due. Commands come as JSON
lines on standard input, `{"link": {...}, "seed": 1, "outages": [[3.0, 3.5]]}`; each starts the link's time
anew and is answered with the counters of the time before. The end of standard input ends it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from typing import Any

from gateway.lab.links import Link, Wire

ADDRESS_A, ADDRESS_B = "10.77.0.1", "10.77.0.2"
MTU = 1500
HORIZON = 600.0
"""Seconds for which a link's bad periods are drawn."""
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_BATCH = 64


def open_tun(namespace: str, address: str, peer: str, *, default_route: bool) -> int:
    """A TUN device in `namespace`; the descriptor works from here. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"link0", _IFF_TUN | _IFF_NO_PI))
        commands = [
            f"addr add {address}/32 peer {peer} dev link0",
            f"link set link0 mtu {MTU} txqueuelen 1000 up",
            "link set lo up",
        ]
        # Chromium gathers candidates on the default route alone.
        commands += [f"route add default via {peer} dev link0"] if default_route else []
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        return tun
    finally:
        libc.setns(here, _CLONE_NEWNET)
        os.close(there)
        os.close(here)


class Emulator:
    """Both directions of the link; `a` is the server's side."""

    def __init__(self, a: int, b: int) -> None:
        self._peer = {a: b, b: a}
        self._ends = (a, b)
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self.reset(Link("open", rtt=1.0), 0)

    def reset(
        self,
        link: Link,
        seed: int,
        outages: list[tuple[float, float]] | None = None,
        udp_until: float | None = None,
    ) -> None:
        """Begin `link` now; `outages` (seconds from now) instead of those that its seed gives.

        From second `udp_until` on no UDP passes, as where a network changes to one that blocks it.
        """
        self._udp_until = float("inf") if udp_until is None else udp_until
        self._start = time.monotonic()
        self._late = 0.0
        bad = outages if outages is not None else link.outages(random.Random(f"down {seed}"), HORIZON)
        back = bad if link.shared else link.outages(random.Random(f"up {seed}"), HORIZON)
        down = Wire(link, bad, random.Random(f"lost down {seed}"), limited=True)
        up = Wire(link, back, random.Random(f"lost up {seed}"), limited=False)
        self._wires = dict(zip(self._ends, (down, up), strict=True))

    def counters(self) -> dict[str, float]:
        """Since `reset`: packets and bytes sent, packets that arrived, per direction; worst lateness in s."""
        return {"late": self._late} | {
            f"{way}_{name}": getattr(wire, name)
            for way, wire in zip(("down", "up"), self._wires.values(), strict=True)
            for name in ("packets", "bytes", "arrived")
        }

    def take(self, end: int) -> None:
        """Packets wait at `end`."""
        for _ in range(_BATCH):
            try:
                packet = os.read(end, 65536)
            except BlockingIOError:
                return
            now = time.monotonic() - self._start
            if packet[9] == socket.IPPROTO_UDP and now >= self._udp_until:
                continue
            arrives = self._wires[end].send(now, len(packet))
            if arrives is not None:
                self._count += 1
                heapq.heappush(self._due, (self._start + arrives, self._count, self._peer[end], packet))

    def deliver(self) -> float | None:
        """Pass on what is due; seconds until the next is, None if nothing is on its way."""
        while self._due:
            wait = self._due[0][0] - time.monotonic()
            if wait > 0:
                return wait
            self._late = max(self._late, -wait)
            _, _, end, packet = heapq.heappop(self._due)
            os.write(end, packet)
        return None


def serve(emulator: Emulator, ends: tuple[int, int]) -> None:
    """Run until standard input ends."""
    poll = select.epoll()
    for descriptor in (*ends, 0):
        poll.register(descriptor, select.EPOLLIN)
    while True:
        wait = emulator.deliver()
        for descriptor, _ in poll.poll(wait):
            if descriptor:
                emulator.take(descriptor)
                continue
            line = sys.stdin.readline()
            if not line:
                return
            print(json.dumps(emulator.counters()), flush=True)
            command: dict[str, Any] = json.loads(line)
            emulator.reset(Link(**command.pop("link")), **command)


def main() -> None:
    """Open both ends, say so, and serve."""
    a = open_tun(sys.argv[1], ADDRESS_A, ADDRESS_B, default_route=False)
    b = open_tun(sys.argv[2], ADDRESS_B, ADDRESS_A, default_route=True)
    print("ready", flush=True)
    serve(Emulator(a, b), (a, b))


if __name__ == "__main__":
    main()
