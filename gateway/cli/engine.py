"""Which model the workers of this machine are to load, checked before anything starts."""

from __future__ import annotations

from engine_adapter.launch.model import Model, ModelError, find_model
from engine_adapter.launch.settings import EngineSettings
from engine_adapter.vllm import pin
from gateway.cli.flags import fail


def model_of(engine: EngineSettings) -> Model | None:
    """The model; None for a fake engine. Ends the program if there is none, or no engine to load it."""
    if engine.kind == "fake":
        return None
    if problem := pin.version_problem(pin.installed()):
        fail(problem, "or try the gateway without a model: `sluice serve --engine fake`")
    try:
        return find_model(engine.model, engine.served_name)
    except ModelError as error:
        fail(str(error))
