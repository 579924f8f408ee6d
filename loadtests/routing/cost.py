"""What a routing decision costs: CPU time of assign, first byte and finish, and memory of the index.

    python -m loadtests.routing.cost

Times are CPU time of this thread, the best of several runs, in microseconds per request, over workers that
have something cached and nothing queued. `same` repeats one prompt, `next turn` extends it, `new` shares
nothing with any before (which includes forgetting as much).
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable

from engine_adapter.api import WorkerInfo
from gateway.routing.assignment import RouteRequest
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings

SIZES = {"1 kB": 1_000, "2k tokens (8 kB)": 8_192, "128k tokens (512 kB)": 524_288}
RUNS = 7


def fleet(workers: int) -> Fleet:
    """Ready workers that serve one model."""
    made = Fleet()
    made.update([WorkerInfo(id=f"w{n}", url=f"http://127.0.0.1:{9000 + n}") for n in range(workers)])
    for worker in made:
        worker.models, worker.health = ("m",), "ready"
    return made


def cost(workers: int, size: int, kind: str) -> tuple[float, float]:
    """Microseconds of (assign and finish, first byte) per request."""
    count = max(40, 2_000_000 // size)
    router = Router(fleet(workers), RoutingSettings(seed=0))
    for worker in router.fleet:
        router.know_cache_size(worker.id, 1_000_000)
    base = os.urandom(size)
    make: Callable[[int], bytes] = {
        "same": lambda n: base,
        "next turn": lambda n: base[: -(n % 16) * 256 - 1],
        "new": lambda n: os.urandom(size),
    }[kind]
    best = (float("inf"), float("inf"))
    now = 0.0
    for _ in range(RUNS):
        bodies = [RouteRequest("m", b"", make(n)) for n in range(count)]
        deciding = answering = 0
        for body in bodies:
            begun = time.thread_time_ns()
            routed = router.assign(body, now)
            assigned = time.thread_time_ns()
            routed.first_byte(now + 0.01)
            answered = time.thread_time_ns()
            routed.finish(now + 0.02, "ok", size // 4, 0, 10)
            deciding += assigned - begun + time.thread_time_ns() - answered
            answering += answered - assigned
            now += 0.05
        best = min(best, (deciding / count / 1000, answering / count / 1000))
    return best


def index_memory(requests: int, size: int) -> tuple[int, int]:
    """Bytes by which the process grows while `requests` distinct prompts go through a router, and the bound.

    The workers' caches are taken to be endless, so that nothing but the bound holds the index back.
    """
    settings = RoutingSettings(seed=0, cache_tokens=10**12)
    router = Router(fleet(4), settings)
    before = resident()
    for n in range(requests):
        routed = router.assign(RouteRequest("m", b"", os.urandom(size)), n * 0.01)
        routed.first_byte(n * 0.01)
        routed.finish(n * 0.01, "ok")
    return resident() - before, settings.index_bytes


def resident() -> int:
    """Resident set of this process in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def main() -> None:
    """Print a Markdown table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    grown, bound = index_memory(20_000, 32_768)
    print(f"index after 20,000 distinct prompts of 32 kB: {grown / 1e6:.0f} MB, bound {bound / 1e6:.0f} MB")
    clock = min(-(time.thread_time_ns() - time.thread_time_ns()) for _ in range(1000)) / 1000
    print(f"clock {clock:.2f} us per reading, included\n")
    print("| prompt | workers | kind | assign + finish, us | first byte, us |")
    print("|---|---|---|---|---|")
    for name, size in SIZES.items():
        for workers in (4, 16):
            for kind in ("same", "next turn", "new"):
                deciding, answering = cost(workers, size, kind)
                print(f"| {name} | {workers} | {kind} | {deciding:.1f} | {answering:.1f} |", flush=True)


if __name__ == "__main__":
    main()
