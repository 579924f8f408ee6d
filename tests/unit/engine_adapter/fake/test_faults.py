"""What a fault may be, and whom the plan lets it hit."""

from __future__ import annotations

from typing import Any

import pytest

from engine_adapter.fake import Fault, FaultError, parse_fault
from engine_adapter.fake.faults import FaultPlan, parse_header


def hits(plan: FaultPlan, times: int, path: str = "/v1/completions", model: str | None = None) -> list[bool]:
    return [
        plan.choose(path, inference=path.startswith("/v1"), model=model) is not None for _ in range(times)
    ]


def test_a_counted_fault_hits_the_next_requests_only() -> None:
    plan = FaultPlan([Fault("status", count=2)])
    assert hits(plan, 4) == [True, True, False, False]
    assert plan.describe()[0] | {"hits": 2, "count": 0} == plan.describe()[0]


def test_a_probable_fault_hits_its_share_and_the_same_ones_again() -> None:
    first = hits(FaultPlan([Fault("hang", probability=0.3, seed=5)]), 1000)
    again = hits(FaultPlan([Fault("hang", probability=0.3, seed=5)]), 1000)
    other = hits(FaultPlan([Fault("hang", probability=0.3, seed=6)]), 1000)
    assert first == again != other
    assert 250 < sum(first) < 350


def test_faults_hit_the_model_endpoints_unless_a_path_is_given() -> None:
    plan = FaultPlan([Fault("status"), Fault("hang", path="/health")])
    assert hits(plan, 1, "/metrics") == [False]
    assert hits(plan, 1, "/v1/completions") == [True]
    chosen = plan.choose("/health", inference=False, model=None)
    assert chosen is not None
    assert chosen.kind == "hang"


def test_a_fault_may_be_for_one_model() -> None:
    plan = FaultPlan([Fault("status", model="a")])
    assert hits(plan, 1, model="a") == [True]
    assert hits(plan, 1, model="b") == [False]


def test_the_first_fault_that_fits_is_committed() -> None:
    plan = FaultPlan([Fault("status", count=1), Fault("hang")])
    kinds = [fault.kind for _ in range(3) if (fault := plan.choose("/v1/x", inference=True, model=None))]
    assert kinds == ["status", "hang", "hang"]


def test_header_and_json_say_the_same() -> None:
    fault = parse_header("cut; point=mid-chunk; after_events=3; reset=true; probability=0.5")
    assert fault == Fault("cut", point="mid-chunk", after_events=3, reset=True, probability=0.5)
    assert parse_header('{"kind": "status", "status": 429, "retry_after": "7"}') == Fault(
        "status", status=429, retry_after="7"
    )
    assert parse_header("status; status=503; retry_after=2") == Fault("status", status=503, retry_after="2")
    assert parse_header(" none ") is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("cut", "object with"),
        ({"point": "event"}, "object with"),
        ({"kind": "explode"}, "explode"),
        ({"kind": "cut", "where": 1}, r"unknown fault field \['where'\]"),
        ({"kind": "cut", "after_events": "x"}, "after_events"),
        ({"kind": "cut", "after_events": -1}, "negative"),
        ({"kind": "status", "status": 99}, "no HTTP status"),
        ({"kind": "hang", "probability": 2}, "between 0 and 1"),
        ({"kind": "hang", "point": "connect"}, "cut"),
        ({"kind": "hang", "point": "mid-chunk"}, "hang is at"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(entry: Any, message: str) -> None:
    with pytest.raises(FaultError, match=message):
        parse_fault(entry)


@pytest.mark.parametrize("text", ["cut; point", "{broken", "explode"])
def test_a_header_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(FaultError):
        parse_header(text)
