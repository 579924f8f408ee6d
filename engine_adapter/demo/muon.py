"""Muon (K. Jordan et al., 2024): momentum whose matrix updates are orthogonalised.

It needs far fewer tokens than AdamW for the matrices of a small transformer; embeddings and norms stay with
AdamW.
"""

from __future__ import annotations

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def orthogonalise(update: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices to a stack `[n, rows, columns]`, by five Newton-Schulz steps in
    bfloat16."""
    a, b, c = _COEFFICIENTS
    x = update.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Optimiser for 2-D weights; weights of equal shape are updated as one stack."""

    def __init__(
        self, weights: list[torch.nn.Parameter], *, lr: float, momentum: float = 0.95, decay: float = 0.0
    ) -> None:
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for weight in weights:
            by_shape.setdefault(weight.shape, []).append(weight)
        groups = [{"params": group} for group in by_shape.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: None = None) -> None:
        """One update; `lr` is relative to a root-mean-square change of 0.2 per weight, as AdamW's would
        be."""
        for group in self.param_groups:
            weights = group["params"]
            gradient = torch.stack([w.grad for w in weights])
            state = self.state[weights[0]]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradient)
            momentum = state["momentum"]
            momentum.mul_(group["momentum"]).add_(gradient)
            update = orthogonalise(gradient + group["momentum"] * momentum)
            scale = 0.2 * max(update.shape[1:]) ** 0.5 * group["lr"]
            for weight, change in zip(weights, update, strict=True):
                weight.mul_(1 - group["lr"] * group["decay"]).add_(change, alpha=-scale)
