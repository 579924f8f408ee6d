"""Streams over a lossy link: gateway, WebRTC and a fake engine in one namespace, Chromium in the other.

    python -m loadtests.stream --seeds 4 --table docs/eloquent/real.md

Needs root, /dev/net/tun, Chromium, Node and `npm ci` in web/. All schemes run at the same time and meet the
same bad periods: SSE and Eloquent through the gateway, retransmission and duplication through the lab's
rivals. When a token was due is reckoned from the engine's interval and the token that came soonest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from gateway.lab.links import Link
from gateway.lab.readers import late_share, shown, stall_share
from gateway.lab.rivals import COPIES
from loadtests.stream.emulator import ADDRESS_A

PORT, RIVALS_PORT = 8080, 8081
HERE = Path(__file__).parent
RIVALS = ("retransmit", "dup2")
SCHEMES = ("sse", *RIVALS, "eloquent")
CALM = Link("no loss", rtt=100)
STARVED = 0.08
"""Seconds by which the emulator may be late; beyond, the machine was busy with something else: run again."""


@dataclass(frozen=True)
class Trial:
    """One link; `outages` at these seconds instead of random ones; UDP passes for so many seconds."""

    link: Link
    outages: tuple[tuple[float, float], ...] | None = None
    udp_until: float | None = None

    @property
    def rivals(self) -> tuple[str, ...]:
        """Those that can finish: they have no second path."""
        return RIVALS if self.udp_until is None else ()


TRIALS = (
    Trial(CALM),
    Trial(Link("short outages", loss=0.05, burst=100)),
    Trial(Link("outages of 500 ms", rtt=60, burst=500, every=4000)),
    Trial(Link("independent 5 %", loss=0.05)),
    Trial(Link("independent 5 %, RTT 20 ms", rtt=20, loss=0.05)),
    Trial(Link("independent 5 %, RTT 400 ms", rtt=400, loss=0.05)),
    Trial(Link("path gone for 6 s", rtt=60, burst=6000, every=60_000), outages=((4.0, 10.0),)),
    Trial(Link("path gone for 9 s", rtt=60, burst=9000, every=60_000), outages=((4.0, 13.0),)),
    Trial(Link("UDP blocked after 4 s", rtt=60), udp_until=4.0),
)


class Lines:
    """A process that reads a line and answers with one."""

    def __init__(self, command: Sequence[str], log: IO[bytes], cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=cwd
        )
        if self._read() != "ready":
            raise SystemExit(f"{' '.join(command)} did not start; see {log.name}")

    def ask(self, question: dict[str, Any]) -> Any:
        """Send one JSON line and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._read() or "null")

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces that end with the block."""
    names = (f"sluice-a-{os.getpid()}", f"sluice-b-{os.getpid()}")
    made: list[str] = []
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(name)
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=False)


@contextlib.contextmanager
def running(command: Sequence[str], log: IO[bytes]) -> Iterator[None]:
    """`command` until the block ends."""
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(namespace: str, url: str) -> None:
    """Until `url` answers inside `namespace`; two minutes at most."""
    probe = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2).read()"
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", probe]
    for _ in range(60):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(1)
    raise SystemExit(f"{url} did not answer within two minutes")


def judge(found: dict[str, Any], interval: float, one_way: float, expected: str) -> dict[str, Any]:
    """Both readers' metrics for what one scheme brought."""
    at = [moment / 1000 for moment in found["at"]]
    complete = found["ended"] and found["text"] == expected
    if len(at) < 2:
        return {"complete": complete, "error": found["error"]}
    start = min(moment - i * interval for i, moment in enumerate(at))
    ready = [start - one_way + i * interval for i in range(len(at))]
    seen = shown(at, at[-1])
    delays = sorted(moment - due - one_way for moment, due in zip(seen, ready, strict=True))
    by = found["by"]
    return {
        "complete": complete,
        "error": found["error"],
        "stall": stall_share(ready, seen),
        "late": late_share(ready, seen, one_way),
        "p99": delays[int(0.99 * (len(delays) - 1))],
        "longest": max(b - a for a, b in zip(seen, seen[1:], strict=False)),
        "channel": sum(name != "sse" for name in by) / len(by),
        "switches": sum(a != b for a, b in zip(by, by[1:], strict=False)),
    }


def table(results: list[dict[str, Any]], seeds: int, interval: float) -> str:
    """Means over the seeds, least and most behind them."""
    lines = [
        f"Real gateway, Chromium, {1 / interval:.0f} tokens/s, {seeds} runs per link; mean (least - most).",
        "",
        "| link | scheme | stall % | late % | p99 delay ms | longest gap ms | over the channel | complete |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trial in dict.fromkeys(result["link"] for result in results):
        for scheme in SCHEMES:
            rows = [r["schemes"][scheme] for r in results if r["link"] == trial and scheme in r["schemes"]]
            if not rows:
                continue
            good = [row for row in rows if "stall" in row]
            cells = [
                _spread([factor * row[key] for row in good], digits)
                for key, factor, digits in (
                    ("stall", 100, 1),
                    ("late", 100, 1),
                    ("p99", 1000, 0),
                    ("longest", 1000, 0),
                )
            ]
            share = sum(row["channel"] for row in good) / max(1, len(good))
            complete = sum(row["complete"] for row in rows)
            cells += [f"{100 * share:.0f} %", f"{complete} of {len(rows)}"]
            lines.append(f"| {trial} | {scheme} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def main() -> None:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4, help="runs per link (default 4)")
    parser.add_argument("--tokens", type=int, default=600, help="length of an answer (default 600)")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between tokens (default 0.02)")
    parser.add_argument("--only", default="", help="links whose name contains this")
    parser.add_argument("--table", type=Path, help="write the table here too")
    parser.add_argument("--json", type=Path, help="write every run's figures here")
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("network namespaces need root")
    folder = Path(tempfile.mkdtemp(prefix="sluice-stream-"))
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        a, b = stack.enter_context(namespaces())
        python = [sys.executable, "-m"]
        emulator = Lines([*python, "loadtests.stream.emulator", a, b], log)
        stack.callback(emulator.close)
        inside_a, inside_b = ["ip", "netns", "exec", a], ["ip", "netns", "exec", b]
        engine = ["engine_adapter.fake", "--port", "9000", "--itl", str(options.interval)]
        engine += ["--vocabulary", "words", "--answer-tokens", str(options.tokens)]
        stack.enter_context(running([*inside_a, *python, *engine], log))
        wait_for(a, "http://127.0.0.1:9000/health")
        gateway = ["gateway", "serve", "--worker-url", "http://127.0.0.1:9000", "--host", ADDRESS_A]
        gateway += ["--port", str(PORT), "--state-dir", str(folder / "state")]
        key = make_key(folder / "keys.json")
        gateway += ["--api-key-file", str(folder / "keys.json")]
        stack.enter_context(running([*inside_a, *python, *gateway], log))
        url = f"http://{ADDRESS_A}:{PORT}"
        wait_for(a, f"{url}/health")
        rivals = ["gateway.lab.rivals", "--engine", "http://127.0.0.1:9000", "--host", ADDRESS_A]
        rivals += ["--port", str(RIVALS_PORT)]
        stack.enter_context(running([*inside_a, *python, *rivals], log))
        rivals_url = f"http://{ADDRESS_A}:{RIVALS_PORT}"
        wait_for(a, f"{rivals_url}/health")
        browser = Lines([*inside_b, "node", str(HERE / "browser.mjs"), url, key, rivals_url], log)
        stack.callback(browser.close)
        body = {
            "messages": [{"role": "user", "content": "Tell me about rivers."}],
            "model": "fake",
            "max_tokens": options.tokens,
            "stream": True,
        }
        emulator.ask({"link": asdict(CALM), "seed": 0})
        first = browser.ask({"body": {**body, "max_tokens": 100}, "seconds": 30})
        print(f"channel: {first['channel']}", flush=True)
        expected = browser.ask({"body": body, "seconds": 90})["sse"]["text"]
        for trial in TRIALS:
            if options.only not in trial.link.name:
                continue
            link, seed, tries = trial.link, 0, 0
            while seed < options.seeds:
                browser.ask({"connect": {name: COPIES[name] for name in trial.rivals}})
                emulator.ask({**asdict(trial), "seed": seed})
                found = browser.ask({"body": body, "seconds": 90, "rivals": trial.rivals})
                counters = emulator.ask({"link": asdict(replace(CALM, rtt=20)), "seed": 0})
                tries += 1
                if counters["late"] > STARVED and tries < 3:
                    print(
                        f"{link.name}, seed {seed}: starved for {counters['late']:.3f} s, again", flush=True
                    )
                    continue
                schemes = {
                    name: judge(found[name], options.interval, link.rtt / 2000, expected)
                    for name in ("sse", *trial.rivals, "eloquent")
                }
                results.append({"link": link.name, "seed": seed, "schemes": schemes, "counters": counters})
                print(json.dumps(results[-1]), flush=True)
                seed, tries = seed + 1, 0
    shutil.rmtree(folder)  # after a failure its log is still there
    text = table(results, options.seeds, options.interval)
    print(text)
    if options.table:
        options.table.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(results) + "\n")


def make_key(path: Path) -> str:
    """The secret of a new API key: the gateway listens on more than loopback only with keys."""
    command = [sys.executable, "-m", "gateway", "key", "create", "--file", str(path), "lab"]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return output.split()[-1]


if __name__ == "__main__":
    main()
