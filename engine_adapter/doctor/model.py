"""Is the model that workers are to load here and whole?"""

from __future__ import annotations

from pathlib import Path

from engine_adapter.doctor.finding import Finding
from engine_adapter.launch.model import Model, ModelError, find_model

_LFS_POINTER = b"version https://git-lfs."
"""So begins what a clone without Git LFS has in place of the weights."""


def check_model(model: str | None) -> Finding:
    """`model` as `--model` takes it. A name on the hub is not looked up."""
    try:
        found = find_model(model)
    except ModelError as error:
        remedy = "give --model a directory with config.json, or a hub name such as Qwen/Qwen3-0.6B"
        return Finding("model", "fail", str(error), remedy)
    if not found.local:
        return Finding("model", "ok", f"{found.source} from the hub; downloaded at the first start")
    return _unreadable(found) or Finding("model", "ok", f"{found.name} at {found.source}")


def _unreadable(model: Model) -> Finding | None:
    directory = Path(model.source)
    weights = [*directory.glob("*.safetensors"), *directory.glob("*.bin"), *directory.glob("*.gguf")]
    if not weights:
        text = f"{directory} holds no weights (*.safetensors)"
        return Finding("model", "fail", text, "copy the whole model there, or give --model another directory")
    try:
        model.config()
        for file in weights:
            with file.open("rb") as opened:
                if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    text = f"{file.name} is a Git LFS pointer, not the weights"
                    return Finding("model", "fail", text, f"`git lfs pull` in {directory}")
    except (OSError, ModelError) as error:
        text = f"cannot read the model: {error}"
        return Finding(
            "model", "fail", text, f"restore the files in {directory}, and let this user read them"
        )
    return None
