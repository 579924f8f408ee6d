"""Where each prompt's KV came from, as the process that serves HTTP knows it.

The connector's statistics carry it there from the scheduler (`stats`); `usage` writes it into answers.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

REMEMBERED = 4096
"""Requests; older ones are forgotten."""
_RANDOM = re.compile(r"-[0-9a-f]{8}$")
_CHILD = re.compile(r"^\d+_")

Sources = Mapping[str, int]
"""Prompt tokens by where their KV came from: `engine`, a tier's name, `computed`."""


class SourceBoard:
    """Written by vLLM's statistics, read by its HTTP server; both run on one event loop."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Sources] = OrderedDict()

    def note(self, request_id: str, sources: Sources) -> None:
        """`request_id` is the engine's own: the answer's id with eight random digits behind it, and with the
        number of the sample in front where several were asked for (all of one prompt; the first tells)."""
        name = _CHILD.sub("", _RANDOM.sub("", request_id))
        if name in self._found:
            return
        self._found[name] = sources
        if len(self._found) > REMEMBERED:
            self._found.popitem(last=False)

    def of(self, answer_id: str) -> Sources | None:
        """Of the answer with this id; of all its prompts together, if there were several."""
        found = self._found.get(answer_id)
        if found is not None:
            return found
        total: dict[str, int] = {}
        number = 0
        while (one := self._found.get(f"{answer_id}-{number}")) is not None:
            for source, tokens in one.items():
                total[source] = total.get(source, 0) + tokens
            number += 1
        return total or None


BOARD = SourceBoard()
"""The process's own: vLLM makes both its writer and its reader, and gives neither a way to the other."""
