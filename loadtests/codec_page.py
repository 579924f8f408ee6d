"""Writes the figures of `docs/codecs/*.json` into the tables of `docs/codecs.md`.

    python -m loadtests.codec_page [--check]

They stand between `<!-- figures: NAME -->` and `<!-- end -->`; `PLACES` says from which file each is made.
`--check` changes nothing and fails if the page is not what the files say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cache.calibration.quality import Measured, table

PAGE = Path(__file__).parents[1] / "docs" / "codecs.md"
_PLACE = re.compile(r"(?P<begin><!-- figures: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)

Record = Mapping[str, Any]


def every_row(record: Record) -> str:
    """All that a bench measured."""
    rows = _rows(record)
    contexts = max(row.contexts for row in rows)
    return f"{record['date']}, {contexts} contexts: `{record['command']}`\n\n{table(rows)}"


def levels(record: Record) -> str:
    """What each quality level means for who asks for it."""
    lines = [
        "| `kv_quality` | stored by | bits/element | x smaller than bfloat16 | KL (nats) | top-1 "
        "| accuracy (full KV) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in _rows(record):
        name, _, level = row.codec.partition(" ")
        if name not in ("lossless", "weir"):
            continue
        lines.append(
            f"| `{level or 'exact'}` | `{name}` | {row.framed_bits_per_element:.2f} "
            f"| {2 * row.times_smaller:.1f} | {row.kl:.4f} | {row.top1:.1%} "
            f"| {row.accuracy or 0:.1%} ({row.accuracy_full or 0:.1%}) |"
        )
    return "\n".join(lines)


def aims(record: Record) -> str:
    """How small the codecs get at task accuracy within a point of full KV."""
    rows, lines = _rows(record), []
    for codec, aim in (("cachegen", 4.3), ("weir", 10.0)):
        fit = [
            row
            for row in rows
            if row.codec.startswith(f"{codec} ")
            and row.accuracy is not None
            and row.accuracy_full is not None
            and row.accuracy >= row.accuracy_full - 0.01
        ]
        if not fit:
            lines.append(f"* `{codec}` (aim: {aim}): no level is within a point.")
            continue
        best = max(fit, key=lambda row: row.times_smaller)
        lines.append(
            f"* `{best.codec}` is {best.times_smaller:.1f} times smaller than eight bits (aim: {aim}) at "
            f"{best.accuracy:.1%} of {best.accuracy_full:.1%} right replies, {best.worse} lost and "
            f"{best.better} won, KL {best.kl:.4f}, top-1 {best.top1:.1%}."
        )
    return "\n".join(lines)


def speed(record: Record) -> str:
    """As `codec_speed` prints it."""
    from loadtests import codec_speed

    return codec_speed.table(record)


PLACES: Mapping[str, tuple[str, Callable[[Record], str]]] = {
    "levels": ("results", levels),
    "aims": ("results", aims),
    "results": ("results", every_row),
    "clerk": ("clerk", every_row),
    "draft": ("draft", every_row),
    "ablation": ("ablation", every_row),
    "dropping": ("dropping", every_row),
    "speed": ("speed", speed),
}
"""Place on the page -> file, and what is said of it."""


def filled(page: str, folder: Path) -> str:
    """The page with every place made anew; one whose file is missing stays as it is."""

    def made(place: re.Match[str]) -> str:
        file, say = PLACES[place["name"]]
        path = folder / f"{file}.json"
        if not path.exists():
            return place[0]
        return f"{place['begin']}\n{say(json.loads(path.read_text()))}\n\n{place['end']}"

    return _PLACE.sub(made, page)


def _rows(record: Record) -> list[Measured]:
    return [Measured.of(row) for row in record["codecs"]]


def main() -> int:
    """Rewrite the page, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = PAGE.read_text()
    after = filled(before, PAGE.with_suffix(""))
    if options.check:
        if before != after:
            print("docs/codecs.md differs from docs/codecs/*.json: python -m loadtests.codec_page")
        return int(before != after)
    PAGE.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
