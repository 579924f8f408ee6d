"""What a large request body costs the gateway in memory: `python -m loadtests.bench.large_body`.

Relays one 50 MB body to a canned engine and prints how far the gateway's resident memory rose at its peak.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import urllib.request
from pathlib import Path

from loadtests.bench.client import MODEL
from loadtests.bench.process import Process
from loadtests.relay import engines, running, sluice


def peak_mb(process: Process) -> float:
    """Highest resident memory since the start (VmHWM)."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel tells no peak memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=50.0)
    megabytes = parser.parse_args().megabytes
    content = "x" * int(megabytes * 1e6)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}]}).encode()
    with tempfile.TemporaryDirectory() as folder, engines(Path(folder), itl_ms=0) as ports:
        subject = sluice(Path(folder), ports)
        with running(subject) as process:
            time.sleep(1.0)
            before = peak_mb(process)
            headers = {"authorization": f"Bearer {subject.key}", "content-type": "application/json"}
            url = f"http://127.0.0.1:{subject.port}/v1/chat/completions"
            started = time.monotonic()
            request = urllib.request.Request(url, body, headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 200
            seconds = time.monotonic() - started
            print(
                f"a body of {len(body) / 1e6:.0f} MB took {seconds:.2f} s; "
                f"peak memory rose by {peak_mb(process) - before:.0f} MB"
            )


if __name__ == "__main__":
    main()
