"""The stream lab: every scheme on every link with the same seeds, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gateway.lab import bootstrap
from gateway.lab.case import PATIENCE, Case
from gateway.lab.datagrams import SACK_BYTES
from gateway.lab.links import Link
from gateway.lab.readers import late_share, shown, stall_share
from gateway.lab.schemes import SCHEMES

METRICS = ("stall", "late")
REFERENCES = ("sse", "retransmit", "dup2", "fec", "oracle")
SWEPT = ("rtt", "loss", "burst", "bad_loss", "every", "rate", "jitter", "tokens", "seconds")
SACKS_DOWN, SACKS_UP = 1.0, 0.5
"""SCTP's own acknowledgements per datagram: aiortc's for each, a browser's for every other one."""


@dataclass(frozen=True, slots=True)
class Run:
    """One answer over one link. Shares of its time, seconds, bytes per token with all headers."""

    stall: float
    late: float
    delay: float
    """Mean time from a token's writing to its showing, beyond the one-way delay."""
    delay_p99: float
    down: float
    up: float
    missing: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One scheme on one link: a run per seed."""

    link: Link
    scheme: str
    runs: tuple[Run, ...]

    def samples(self, metric: str) -> list[float]:
        """The metric of every seed."""
        return [float(getattr(run, metric)) for run in self.runs]


def run(link: Link, scheme: str, seed: int) -> Run:
    """Carry the answer of `seed` over `link` by `scheme`."""
    case = Case(link, seed)
    SCHEMES[scheme].carry(case)
    one_way = link.rtt / 2000
    at = shown(case.arrived, case.ready[-1] + PATIENCE)
    delays = sorted(a - r - one_way for a, r in zip(at, case.ready, strict=True))
    wires = [(case.down, case.up), *([case.spare] if case.spare else [])]
    sacks = SACK_BYTES if SCHEMES[scheme].datagrams else 0
    down = sum(d.bytes + u.arrived * sacks * SACKS_DOWN for d, u in wires)
    up = sum(u.bytes + d.arrived * sacks * SACKS_UP for d, u in wires)
    tokens = len(case.ready)
    return Run(
        stall=stall_share(case.ready, at),
        late=late_share(case.ready, at, one_way),
        delay=sum(delays) / tokens,
        delay_p99=delays[int(0.99 * (tokens - 1))],
        down=down / tokens,
        up=up / tokens,
        missing=case.missing,
    )


def compare(
    links: Iterable[Link],
    schemes: Iterable[str],
    seeds: int,
    told: Callable[[Cell], None] = lambda cell: None,
) -> list[Cell]:
    """All cells; `told` hears of each when it is done."""
    names = list(schemes)
    unknown = [name for name in names if name not in SCHEMES]
    if unknown:
        raise ValueError(f"no scheme is called {unknown[0]!r}; take some of {', '.join(SCHEMES)}")
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2 for an interval, got {seeds}")
    cells: list[Cell] = []
    for link in links:
        for name in names:
            cells.append(Cell(link, name, tuple(run(link, name, seed) for seed in range(seeds))))
            told(cells[-1])
    return cells


def sweep(links: Sequence[Link], name: str, values: str) -> list[Link]:
    """The only one of `links` with its property `name` at each of the comma-separated `values`."""
    if len(links) != 1:
        raise ValueError("a sweep varies one link: give one with --link")
    if name not in SWEPT:
        raise ValueError(f"{name!r} cannot be swept; take one of {', '.join(SWEPT)}")
    (link,) = links
    swept: list[Link] = []
    for value in values.split(","):
        change: Any = {"name": f"{link.name}, {name} {value}", name: float(value)}
        swept.append(replace(link, **change))
    return swept


def summary(cells: list[Cell]) -> dict[str, Any]:
    """Means with 95 % intervals per cell, and over all links what each scheme is to the references."""
    schemes = list(dict.fromkeys(cell.scheme for cell in cells))
    links = list(dict.fromkeys(cell.link for cell in cells))
    by = {(cell.link.name, cell.scheme): cell for cell in cells}

    def all_links(scheme: str, metric: str) -> list[list[float]]:
        return [by[link.name, scheme].samples(metric) for link in links]

    overall: dict[str, Any] = {}
    for scheme in schemes:
        overall[scheme] = {
            metric: sum(sum(s) / len(s) for s in all_links(scheme, metric)) / len(links)
            for metric in (*METRICS, "delay", "delay_p99", "down", "up")
        }
        overall[scheme]["ratios"] = {
            reference: {
                metric: bootstrap.ratio(all_links(scheme, metric), all_links(reference, metric))
                for metric in METRICS
            }
            for reference in REFERENCES
            if reference in schemes and reference != scheme
        }
    return {
        "seeds": len(cells[0].runs),
        "links": [asdict(link) for link in links],
        "schemes": {name: SCHEMES[name].what for name in schemes},
        "cells": [outline(cell) for cell in cells],
        "overall": overall,
    }


def outline(cell: Cell) -> dict[str, Any]:
    """A cell's means, the metrics with their intervals."""
    return {
        "link": cell.link.name,
        "scheme": cell.scheme,
        **{metric: bootstrap.mean(cell.samples(metric)) for metric in METRICS},
        **{name: sum(cell.samples(name)) / len(cell.runs) for name in ("delay", "delay_p99", "down", "up")},
        "missing": sum(run.missing for run in cell.runs),
    }


def samples(cells: list[Cell]) -> list[dict[str, Any]]:
    """Every seed's metrics, for whoever wants to compute something else from them."""
    return [
        {
            "link": cell.link.name,
            "scheme": cell.scheme,
            **{metric: [round(value, 5) for value in cell.samples(metric)] for metric in METRICS},
        }
        for cell in cells
    ]
