from __future__ import annotations

from gateway.routing.consistency import complaints


def test_one_name_for_two_models_is_told(make_fleet) -> None:
    fleet = make_fleet("a", "b", "c", models=("m", "n"))
    assert complaints(fleet) == []
    fleet.workers["a"].max_model_len = 4_096
    fleet.workers["b"].max_model_len = 4_096
    assert complaints(fleet) == []
    fleet.workers["c"].max_model_len = 32_768
    fleet.workers["c"].models = ("m",)
    [complaint] = complaints(fleet)
    assert "'m'" in complaint
    assert "32768 at c" in complaint
    assert "--served-model-name" in complaint
