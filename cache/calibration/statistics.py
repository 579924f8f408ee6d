"""What calibration gathers about the rows of a layer: moments, sensitivity, and a sample of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SAMPLE_ROWS = 16_384
"""Rows per layer that are kept to count symbols on."""


@dataclass(slots=True)
class LayerStatistics:
    """Sums over the rows [N] of one layer, the first row of each context apart."""

    channels: int
    rows: int = 0
    total: F64 = field(init=False)
    """[N]."""
    products: F64 = field(init=False)
    """[N, N]: sum of row times row."""
    firsts: int = 0
    first_total: F64 = field(init=False)
    gradient_rows: int = 0
    fisher: F64 = field(init=False)
    """[N, N]: sum of gradient times gradient. Gradients are of sampled next-token log-likelihoods, so this is
    the Fisher information of the KV: half of it, between two errors, is the KL divergence that they cause."""
    sample: list[F32] = field(default_factory=list)
    """Whole contexts, the first row included."""
    kept: int = 0

    def __post_init__(self) -> None:
        self.total = np.zeros(self.channels)
        self.products = np.zeros((self.channels, self.channels))
        self.first_total = np.zeros(self.channels)
        self.fisher = np.zeros((self.channels, self.channels))

    def add(self, rows: F32, gradients: F32 | None = None) -> None:
        """Add a context's rows [tokens, N] from position 0 on, and gradients [draws, tokens, N]."""
        later = rows[1:]
        self.rows += len(later)
        self.total += later.sum(axis=0, dtype=np.float64)
        self.products += later.T @ later
        self.firsts += 1
        self.first_total += rows[0]
        if self.kept < SAMPLE_ROWS:
            self.sample.append(rows)
            self.kept += len(rows)
        if gradients is not None:
            flat = gradients.reshape(-1, self.channels)
            self.fisher += flat.T @ flat
            self.gradient_rows += len(flat)

    @property
    def mean(self) -> F64:
        return self.total / max(self.rows, 1)

    @property
    def first(self) -> F64:
        return self.first_total / max(self.firsts, 1)

    @property
    def covariance(self) -> F64:
        mean = self.mean
        covariance: F64 = self.products / max(self.rows, 1) - np.outer(mean, mean)
        return covariance

    @property
    def sensitivity(self) -> F64:
        """Fisher information per row; the unit matrix if no gradients were seen."""
        if not self.gradient_rows:
            return np.eye(self.channels)
        found: F64 = self.fisher / self.gradient_rows
        return found
