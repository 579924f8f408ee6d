"""Every complaint has a test, and it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROWS = [
    line
    for line in (ROOT / "docs" / "complaints.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| Complaint", "|---"))
]


def test_there_are_rows() -> None:
    assert len(ROWS) > 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_names_tests_that_exist(row: str) -> None:
    *_, tests, _ = row.split("|")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
    assert len(named) == tests.count("`") // 2 > 0
    for file, name in named:
        defined = rf"^ *(async def|def) {name}\(|^{name} = "
        assert re.search(defined, (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {name}"
