"""Scorers accept right answers in any wording and reject near misses."""

from __future__ import annotations

import pytest

from engine_adapter.demo.scoring import SCORERS, wilson


@pytest.mark.parametrize(
    ("scorer", "reply", "expected", "kind", "right"),
    [
        ("last_value", "Ada lives in Dunham.", "Dunham", "town", True),
        ("last_value", "Not in Lindale but in Dunham", "Dunham", "town", True),
        ("last_value", "Ada lives in Lindale.", "Dunham", "town", False),
        ("last_value", "The text does not say where; perhaps Dunham", "Dunham", "town", False),
        ("listed", "Ada lives in Dunham. So the answer is: Ada and Ben.", "Ada,Ben", "person", True),
        ("listed", "So the answer is: Ada.", "Ada,Ben", "person", False),
        ("listed", "So the answer is: none.", "none", "person", True),
        ("denial", "The text does not say where Ada lives.", "", "person", True),
        ("denial", "Ada lives in Dunham.", "", "person", False),
        ("yes_no", "Yes, she does.", "yes", "person", True),
        ("yes_no", "No.", "yes", "person", False),
        ("letter", "Ada is a baker, so the answer is B.", "B", "person", True),
        ("letter", "A or C", "A", "person", False),
        ("count", "Ada and Ben live there, so the answer is two.", "two", "person", True),
        ("count", "One, two, three", "two", "person", False),
        ("same_json", '{"a": 1, "b": null}', '{"b": null, "a": 1}', "person", True),
        ("same_json", '{"a": 1', '{"a": 1}', "person", False),
        ("verbatim", " Ada is here. ", "Ada is here.", "person", True),
        ("same_sentences", "B is. A is.", "A is. B is.", "person", True),
        ("same_sentences", "B is.", "A is. B is.", "person", False),
    ],
)
def test_scorer(scorer: str, reply: str, expected: str, kind: str, right: bool) -> None:
    assert SCORERS[scorer](reply, expected, kind) is right


def test_wilson_interval() -> None:
    low, high = wilson(95, 100)
    assert low == pytest.approx(0.8883, abs=5e-4)
    assert high == pytest.approx(0.9785, abs=5e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
