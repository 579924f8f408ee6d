"""What the workers of this machine are to load and to run on, checked before anything starts."""

from __future__ import annotations

from engine_adapter.launch import nvidia
from engine_adapter.launch.hardware import Hardware
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


def hardware_of(engine: EngineSettings) -> Hardware:
    """What the installed build of vLLM has here. Ends the program if that is for GPUs and there is none.

    A driver or a GPU that looks too old is left to vLLM to refuse: there are ways to run it all the same.
    """
    found = pin.installed()
    if engine.kind == "fake" or found.on_cpu:
        return Hardware.detect()
    seen = nvidia.look()
    if not seen.gpus:
        text, remedy = seen.gpu_build_problem()
        fail(text, remedy)
    return Hardware.detect(len(seen.gpus))
