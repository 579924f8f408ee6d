"""Run harnesses under atheris: `python -m tests.fuzz [NAME ...] --seconds 60`. From the root of a checkout.

Each runs in a process of its own, from its corpus in `tests/fuzz/corpus/NAME`. A failure prints its traceback
and leaves the input in `tests/fuzz/found/NAME`, which `--replay FILE` runs again; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ("request_body", "event_stream", "chunked_body", "eloquent_packets", "frame_head", "codec_payload")
LONGEST_INPUT = 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each harness (default: 60)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input through one harness")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.names or list(NAMES)
    if unknown := set(names) - set(NAMES):
        parser.error(f"no harness is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.replay is not None:
        for name in names:
            importlib.import_module(f"tests.fuzz.{name}").one(options.replay.read_bytes())
        return 0
    if options.in_this_process:
        _fuzz(names[0], options.seconds)
    failed = [name for name in names if _run(name, options.seconds)]
    print(
        f"{len(names) - len(failed)} of {len(names)} harnesses found nothing"
        + "".join(f"; FAILED {f}" for f in failed)
    )
    return 1 if failed else 0


def _run(name: str, seconds: int) -> int:
    print(f"--- {name}, {seconds} s", flush=True)
    command = (sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--in-this-process")
    return subprocess.run(command, check=False).returncode


def _fuzz(name: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    # What is imported here is instrumented, so that the fuzzer sees which branches an input takes.
    with atheris.instrument_imports(include=["gateway", "cache", "engine_adapter", "tests.fuzz"]):
        harness = importlib.import_module(f"tests.fuzz.{name}")
    found = HERE / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sluice-fuzz-") as new:
        arguments = (
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT}",
            f"-artifact_prefix={found}/",
            "-timeout=20",
            "-print_final_stats=1",
        )
        atheris.Setup([name, *arguments, new, str(HERE / "corpus" / name)], harness.one)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
