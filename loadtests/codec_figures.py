"""Every figure about the codecs, measured anew: tables for the shipped base model, quality, ablation, speed.

    python -m loadtests.codec_figures

Two lanes use two cores for what is counted; speed is measured alone at the end. `--quick FOLDER` does the
same on a tenth of the contexts, leaves the repository alone and writes to a folder.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

FIGURES = Path("docs/codecs")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

Command = Sequence[str]


def run(command: Command) -> None:
    """One step; says how long it took. Raises CalledProcessError with what it printed."""
    started = time.monotonic()
    print("+", shlex.join([Path(command[0]).name, *command[1:]]), flush=True)
    done = subprocess.run(command, env=os.environ | _ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
    print(f"  {time.monotonic() - started:.0f} s: {command[-1]}", flush=True)


def lanes(*commands: Sequence[Command]) -> None:
    """Lists of steps, each list in a thread of its own. Raises what the first that failed raised."""
    failed: list[BaseException] = []

    def follow(lane: Sequence[Command]) -> None:
        try:
            for command in lane:
                run(command)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=follow, args=(lane,)) for lane in commands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    share, figures = (10, options.quick) if options.quick else (1, FIGURES)
    figures.mkdir(parents=True, exist_ok=True)
    sluice = str(Path(sys.executable).with_name("sluice"))

    def number(full: int) -> str:
        return str(max(3, full // share))

    with tempfile.TemporaryDirectory() as elsewhere:
        train = [sluice, "codec", "train", "--contexts", number(64), "--check", number(24)]
        bench = [sluice, "codec", "bench", "--model", "base"]
        other = ["--out", elsewhere]
        target = other if options.quick else ["--ship"]
        run([*train, "--model", "base", *target])
        fewer = ["--contexts", number(24)]
        lanes(
            [
                [*bench, "--contexts", number(120), "--json", str(figures / "results.json")],
                [*bench, "--dropping", *fewer, "--json", str(figures / "dropping.json")],
            ],
            [
                [*bench, "--ablation", *fewer, "--calibration", number(32)]
                + ["--json", str(figures / "ablation.json")],
                *(
                    [*train, "--model", name, *other, "--json", str(figures / f"{name}.json")]
                    for name in ("clerk", "draft")
                ),
            ],
        )
    python = [sys.executable, "-m"]
    run([*python, "loadtests.codec_speed", "--json", str(figures / "speed.json")])
    plots = [*python, "loadtests.codec_plots"]
    run([*plots, str(figures / "results.json"), "--out", str(figures / "pareto.svg")])
    run(
        [*plots, str(figures / "ablation.json"), "--damage", "kl_median"]
        + ["--out", str(figures / "ablation.svg")]
    )
    if not options.quick:
        run([*python, "loadtests.codec_page"])


if __name__ == "__main__":
    main()
