"""Tables of the codecs' page are what the files beside it say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("numba")

from loadtests import codec_page


def test_the_page_says_what_the_files_say() -> None:
    page = codec_page.PAGE.read_text()
    assert codec_page.filled(page, codec_page.PAGE.with_suffix("")) == page, (
        "run python -m loadtests.codec_page"
    )


def test_places_are_filled_and_others_left(tmp_path: Path) -> None:
    row = {
        "codec": "weir small",
        "contexts": 3,
        "chunk_tokens": 256,
        "bits_per_element": 0.5,
        "framed_bits_per_element": 0.8,
        "kl": 0.01,
        "kl_worst_context": 0.1,
        "nll_difference": 0.02,
        "top1": 0.99,
        "accuracy_full": 0.5,
        "accuracy": 0.25,
        "worse": 1,
        "better": 0,
        "kl_median": 0.001,
    }
    record = {"date": "2026-01-02", "command": "sluice codec bench", "codecs": [row]}
    (tmp_path / "results.json").write_text(json.dumps(record))
    places = [f"<!-- figures: {name} -->\nold\n<!-- end -->" for name in ("aims", "results")]
    missing = "<!-- figures: speed -->\nkept\n<!-- end -->\n"
    page = "\n".join(["a", *places, "b", missing])
    made = codec_page.filled(page, tmp_path)
    assert "* `weir` (aim: 10.0): no level is within a point." in made
    assert "2026-01-02, 3 contexts: `sluice codec bench`" in made
    assert (
        "| weir small | 0.500 | 0.800 | 10.00 | 0.01000 | 0.00100 | +0.0200 | 99.00% | 25.0% (50.0%), -1 +0 |"
        in made
    )
    assert "old" not in made
    assert made.startswith("a\n")
    assert made.endswith(f"b\n{missing}")
    assert codec_page.filled(made, tmp_path) == made
