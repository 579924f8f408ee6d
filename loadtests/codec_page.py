"""Writes the figures of `docs/codecs/*.json` into the tables of `docs/codecs.md`.

    python -m loadtests.codec_page [--check]

A table stands between `<!-- figures: NAME -->` and `<!-- end -->` and is made from `docs/codecs/NAME.json`,
under a line that says when and with which command it was measured. `--check` changes nothing and fails if the
page is not what the files say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.calibration.quality import Measured, table

PAGE = Path(__file__).parents[1] / "docs" / "codecs.md"
_PLACE = re.compile(r"(?P<begin><!-- figures: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def rendered(name: str, record: Mapping[str, Any]) -> str:
    """A measurement as Markdown."""
    if name == "speed":
        from loadtests import codec_speed

        return codec_speed.table(record)
    rows = [Measured.of(row) for row in record["codecs"]]
    contexts = max(row.contexts for row in rows)
    return f"{record['date']}, {contexts} contexts: `{record['command']}`\n\n{table(rows)}"


def filled(page: str, folder: Path) -> str:
    """The page with every table made anew; a place whose file is missing stays as it is."""

    def made(place: re.Match[str]) -> str:
        path = folder / f"{place['name']}.json"
        if not path.exists():
            return place[0]
        return f"{place['begin']}\n{rendered(place['name'], json.loads(path.read_text()))}\n\n{place['end']}"

    return _PLACE.sub(made, page)


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
