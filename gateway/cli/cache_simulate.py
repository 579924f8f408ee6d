"""`sluice cache simulate`: what eviction policies would have made of a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cache.policies.policy import NAMES, UnknownPolicy
from cache.settings import parse_size
from cache.simulate import BOUND, Outcome, read_trace, replay


def simulate(
    trace: Annotated[
        Path, typer.Option(help="JSON lines with `hash_ids` for each request (Mooncake's form).")
    ],
    capacity: Annotated[
        str, typer.Option("--bytes", help="Sizes of the cache to try, by commas, e.g. 4GiB,16GiB.")
    ],
    policy: Annotated[str, typer.Option(help=f"By commas; there are {', '.join(NAMES)}.")] = ",".join(NAMES),
    chunk_bytes: Annotated[
        str, typer.Option(help="KV bytes of one hash id. 64MiB: 512 tokens of an 8B model in bfloat16.")
    ] = "64MiB",
    warm_up: Annotated[float, typer.Option(help="Share of the requests that only fills the cache.")] = 0.1,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw hit rates over sizes, as SVG or PNG (needs matplotlib).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print outcomes as JSON lines.")] = False,
) -> None:
    """Replay a trace through eviction policies, beside what a clairvoyant one would reach.

    No engine and no tier takes part; the policies are those of the KV layer itself.
    """
    try:
        prompts = read_trace(trace)
        chunk = parse_size(chunk_bytes)
        sizes = [parse_size(size) for size in capacity.split(",")]
        outcomes = [
            replay(prompts, name.strip(), max(1, size // chunk), warm_up=int(warm_up * len(prompts)))
            for size in sizes
            for name in (*policy.split(","), BOUND)
        ]
    except UnknownPolicy as error:
        _fail(str(error))
    except (OSError, ValueError) as error:
        _fail(str(error))
    if plot is not None:
        _draw(outcomes, chunk, plot)
    if as_json:
        for outcome in outcomes:
            typer.echo(json.dumps({"hit_rate": outcome.hit_rate, **_fields(outcome)}))
        return
    for line in _table(outcomes, chunk):
        typer.echo(line)


def _table(outcomes: list[Outcome], chunk: int) -> list[str]:
    bounds = {outcome.capacity_chunks: outcome.hit_rate for outcome in outcomes if outcome.policy == BOUND}
    lines = ["        size  policy     hit rate   of bound   evictions"]
    for outcome in outcomes:
        bound = bounds[outcome.capacity_chunks]
        share = f"{outcome.hit_rate / bound:>9.1%}" if bound else "        -"
        size = outcome.capacity_chunks * chunk / (1 << 30)
        lines.append(
            f"{size:>8.2f} GiB  {outcome.policy:<8} {outcome.hit_rate:>10.2%} {share} {outcome.evictions:>11}"
        )
    return lines


def _fields(outcome: Outcome) -> dict[str, object]:
    names = ("policy", "capacity_chunks", "asked", "hits", "evictions")
    return {name: getattr(outcome, name) for name in names}


def _draw(outcomes: list[Outcome], chunk: int, path: Path) -> None:
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        _fail("--plot needs matplotlib: pip install 'sluice[loadtest]'")
    figure, axes = plt.subplots(figsize=(6, 4))
    for name in dict.fromkeys(outcome.policy for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.policy == name]
        axes.plot(
            [outcome.capacity_chunks * chunk / (1 << 30) for outcome in mine],
            [100 * outcome.hit_rate for outcome in mine],
            marker="o",
            label=name,
        )
    axes.set(xscale="log", xlabel="cache, GiB", ylabel="tokens that hit, %")
    axes.legend()
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def _fail(message: str) -> NoReturn:
    typer.echo(f"sluice: {message}", err=True)
    raise typer.Exit(2)
