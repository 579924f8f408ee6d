from __future__ import annotations

import pytest

from gateway.routing.settings import RoutingSettings


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
