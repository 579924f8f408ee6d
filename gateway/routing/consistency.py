"""What is odd about a fleet without being wrong enough to stop: for a person to read."""

from __future__ import annotations

from gateway.routing.fleet import Fleet


def complaints(fleet: Fleet) -> list[str]:
    """One sentence per model name that seems to stand for different models at different workers."""
    found: list[str] = []
    for name, workers in fleet.models().items():
        lengths = {w.max_model_len: w.id for w in workers if w.max_model_len is not None}
        if len(lengths) > 1:
            shown = ", ".join(f"{length} at {worker}" for length, worker in sorted(lengths.items()))
            found.append(
                f"the model {name!r} has different context lengths ({shown}): requests for it go to all of "
                "these workers; give them different --served-model-name if they are different models"
            )
    return found
