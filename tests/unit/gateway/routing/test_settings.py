from __future__ import annotations

from typing import Any

import pytest

from gateway.routing.policies.registry import POLICIES
from gateway.routing.settings import POLICY_NAMES, RoutingSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("index_bytes", 0),
        ("cache_tokens", 0),
        ("explain_records", 0),
        ("prefill_tokens_per_s", 0.0),
        ("bytes_per_token", float("nan")),
        ("session_load_factor", 0.9),
        ("prefix_load_factor", 0.0),
        ("foresight", -1.0),
    ],
)
def test_a_figure_out_of_range_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"routing\.{field} must"):
        RoutingSettings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [{"policy": "nearest"}, {"model_policies": {"m": "nearest"}}])
def test_an_unknown_policy_is_refused_with_the_names_there_are(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(setting))}: .*'nearest'.*power_of_two.*ttft"):
        RoutingSettings(**setting)


def test_every_name_has_its_policy() -> None:
    assert set(POLICY_NAMES) == set(POLICIES)


def test_who_reads_files_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="host or fleet, not 'rack'"):
        RoutingSettings(file_tier="rack")  # type: ignore[arg-type]
