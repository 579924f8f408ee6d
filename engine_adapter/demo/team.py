"""Several processes that train one model, each on rows of its own.

On a busy CPU two processes that meet once a step get more done than one process with two threads, which
meet in every product. The variables are those of `torchrun`: `RANK`, `WORLD_SIZE`, `MASTER_ADDR`,
`MASTER_PORT`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Team:
    """This process's place; a team of one needs no communication."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, environment: Mapping[str, str]) -> Team:
        """Meet the others named by the environment, or be alone."""
        team = cls(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))
        if team.size > 1:
            torch.distributed.init_process_group("gloo", rank=team.rank, world_size=team.size)
        return team

    def mean(self, model: nn.Module, numbers: Sequence[float]) -> list[float]:
        """Average the gradients of a model in place, and some numbers, over the team."""
        if self.size == 1:
            return list(numbers)
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients] + [torch.tensor(list(numbers))])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        sizes = [gradient.numel() for gradient in gradients]
        pieces = flat.split([*sizes, len(numbers)])
        for gradient, piece in zip(gradients, pieces[:-1], strict=True):
            gradient.copy_(piece.view_as(gradient))
        return [float(number) for number in pieces[-1]]


ALONE = Team()
