"""Many histograms, few tables: coefficients of like distribution share one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.dispatch import frequencies


def cluster(
    counts: npt.NDArray[np.int64], tables: int, *, rounds: int = 12
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Frequency tables [at most `tables`, 256] for histograms [n, 256], and the table of each.

    Lloyd's algorithm with code length as distance: a histogram goes to the table that codes it shortest, a
    table becomes the sum of its histograms, and half a symbol more of each that lies between seen ones. It
    starts from histograms sorted by entropy, so it is deterministic.
    """
    if not 1 <= tables <= 256:
        raise ValueError(f"1 to 256 tables fit a byte, not {tables}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    entropy = -(shares * np.log2(np.maximum(shares, 1e-12))).sum(axis=1)
    order = np.argsort(entropy, kind="stable")
    chosen = np.empty(len(counts), np.int64)
    for table, part in enumerate(np.array_split(order, min(tables, len(counts)))):
        chosen[part] = table
    for _ in range(rounds):
        made = _sums(counts, chosen)
        price = counts @ -np.log2(made / 4096 + 1e-9).T
        again = price.argmin(axis=1)
        if (again == chosen).all():
            break
        chosen = again
    chosen = np.unique(chosen, return_inverse=True)[1]
    return _sums(counts, chosen), chosen.astype(np.uint8)


def _sums(counts: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    made = np.empty((int(chosen.max()) + 1, 256), np.uint16)
    for table in range(len(made)):
        # Twice the counts, so that half a symbol can be added.
        total = 2 * counts[chosen == table].sum(axis=0)
        if total.sum() == 0:
            total = 2 * counts.sum(axis=0)
        seen = np.flatnonzero(total[1:]) + 1
        if seen.size:
            first, last = max(1, int(seen[0]) - 1), min(255, int(seen[-1]) + 1)
            total[first : last + 1] += 1
        made[table] = frequencies(total)
    return made
