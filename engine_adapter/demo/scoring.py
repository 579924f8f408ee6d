"""Exact scorers: each reads a reply and says whether it gives the expected answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from engine_adapter.demo.lexicon import COUNT_WORDS, KINDS

_WORD = re.compile(r"[A-Za-z]+|\d+")
_DENIAL = re.compile(r"text does not (say|name|give|describe)")


def denies(reply: str) -> bool:
    """Whether a reply says that the text does not say."""
    return _DENIAL.search(reply) is not None


def mentions(reply: str, kind: str) -> list[str]:
    """Members of a kind in the order in which the reply names them, with repetitions."""
    members = frozenset(KINDS[kind])
    return [word for word in _WORD.findall(reply) if word in members]


def last_value(reply: str, expected: str, kind: str) -> bool:
    """The last member of `kind` that the reply names is the expected one, and the reply is no denial."""
    found = mentions(reply, kind)
    return not denies(reply) and bool(found) and found[-1] == expected


def listed(reply: str, expected: str, kind: str) -> bool:
    """The members named after the last colon (or anywhere) are those expected, comma-separated, in any
    order."""
    tail = reply.rsplit(":", 1)[-1]
    wanted = {part.strip() for part in expected.split(",") if part.strip() not in {"", "none"}}
    return not denies(reply) and set(mentions(tail, kind)) == wanted and (bool(wanted) or "none" in tail)


def denial(reply: str, expected: str, kind: str) -> bool:
    """The reply says that the text does not say."""
    return denies(reply)


def yes_no(reply: str, expected: str, kind: str) -> bool:
    """The last yes or no is the expected one."""
    found = [word for word in _WORD.findall(reply.lower()) if word in {"yes", "no"}]
    return bool(found) and found[-1] == expected


def letter(reply: str, expected: str, kind: str) -> bool:
    """The last lone capital A-D is the expected one."""
    found = re.findall(r"\b([A-D])\b", reply)
    return bool(found) and found[-1] == expected


def count(reply: str, expected: str, kind: str) -> bool:
    """The last number word is the expected one."""
    found = [word for word in _WORD.findall(reply.lower()) if word in COUNT_WORDS]
    return bool(found) and found[-1] == expected


def parsed_json(reply: str) -> object | None:
    """The JSON value of a whole reply, or `None`."""
    try:
        value: object = json.loads(reply)
    except ValueError:
        return None
    return value


def same_json(reply: str, expected: str, kind: str) -> bool:
    """The reply is JSON equal to the expected JSON."""
    return parsed_json(reply) == parsed_json(expected)


def verbatim(reply: str, expected: str, kind: str) -> bool:
    """The reply is the expected text, white space at the ends aside."""
    return reply.strip() == expected.strip()


def same_sentences(reply: str, expected: str, kind: str) -> bool:
    """The reply consists of the expected sentences, in any order."""
    return _sentences(reply) == _sentences(expected)


def _sentences(text: str) -> set[str]:
    return {part.strip() for part in text.split(".") if part.strip()}


Scorer = Callable[[str, str, str], bool]
SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        scorer.__name__: scorer
        for scorer in (last_value, listed, denial, yes_no, letter, count, same_json, verbatim, same_sentences)
    }
)


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion (E. B. Wilson, 1927); `(0, 1)` for no trials."""
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    centre = p + z * z / (2 * trials)
    margin = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)
