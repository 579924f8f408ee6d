"""One line of what `sluice doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` says how to mend a `warn` or a `fail`: a command where there is one."""

    check: str
    level: Level
    text: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if (self.level == "ok") == bool(self.remedy):
            raise ValueError(f"a finding has a remedy unless it is ok: {self}")
