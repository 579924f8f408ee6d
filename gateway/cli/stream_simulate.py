"""`sluice cache simulate-stream`: streaming policies for stored KV over simulated links."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cache.stream import ChunkBudget, LookAhead, Policy, RemainingTime
from cache.stream_simulate import (
    LINKS,
    ORACLE,
    Deployment,
    LevelFigures,
    Outcome,
    Scenario,
    fixed_policies,
    simulate,
    sweep,
)

EXACT = "exact"
LOSSLESS_BITS = 10.757
"""Bits per bfloat16 element of the lossless codec with its frame: `sluice codec bench` on the shipped base
model."""
DEFAULT_LEVEL = "balanced"
"""For the first chunk: the medium level, as in the paper."""
_PLOTTED = (
    "only high",
    "only small",
    "only text",
    "chunk budget",
    "remaining time",
    "look-ahead, prefix",
    "look-ahead",
    ORACLE,
)


def simulate_stream(
    link: Annotated[str, typer.Option(help=f"By commas; there are {', '.join(LINKS)}.")] = ",".join(LINKS),
    slo: Annotated[str, typer.Option(help="Seconds by which a context should be usable, by commas.")] = (
        "0.25,0.5,1,2,4"
    ),
    seeds: Annotated[int, typer.Option(help="Contexts, each with a link of its own, per row.", min=2)] = 300,
    first_seed: Annotated[int, typer.Option(help="Other seeds, other contexts and links.")] = 0,
    chunk_tokens: Annotated[int, typer.Option(help="Tokens per streamed chunk.", min=1)] = 1536,
    codec: Annotated[str, typer.Option(help="Whose levels: weir or cachegen.")] = "weir",
    bench: Annotated[
        Path | None,
        typer.Option(help="Take the levels' figures from `sluice codec bench --json`, not from the tables."),
    ] = None,
    prefill_rate: Annotated[float, typer.Option(help="Tokens per second at a context's start.")] = 4000.0,
    oracle: Annotated[bool, typer.Option(help="Also the best in hindsight; slow for many chunks.")] = True,
    out: Annotated[Path | None, typer.Option("--json", help="Write every row and the set-up here.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw violations and quality over the SLO, as SVG (matplotlib).")
    ] = None,
) -> None:
    """Compare ways to stream a stored context in time: fixed levels, text, CacheGen's rules, ours, an oracle.

    Links, prefill and decoder are simulated, for a Llama of 8B parameters; sizes and quality of the levels
    are those measured on the model that the tables belong to.
    """
    try:
        levels = _from_bench(bench, codec) if bench is not None else _from_tables(codec)
        scenarios = sweep(
            link.split(","),
            [float(one) for one in slo.split(",")],
            Scenario("", 0.0, chunk_tokens, seeds, first_seed=first_seed),
        )
    except ValueError as error:
        _fail(str(error))
    deployment = Deployment(levels, prefill_rate=prefill_rate)
    outcomes = list(simulate(scenarios, deployment, policies(levels), with_oracle=oracle))
    for line in table(outcomes):
        typer.echo(line)
    if out is not None:
        rows = [asdict(outcome) for outcome in outcomes]
        out.write_text(json.dumps({"deployment": asdict(deployment), "rows": rows}, indent=1) + "\n")
    if plot is not None:
        _draw(outcomes, plot)


def policies(levels: Sequence[LevelFigures]) -> list[Policy]:
    """All that are compared. Raises ValueError if there is no level for the first chunk."""
    names = [level.name for level in levels]
    default = names.index(DEFAULT_LEVEL)
    return [
        *fixed_policies(levels),
        ChunkBudget(),
        RemainingTime(default),
        LookAhead(default, overlap=False, name="look-ahead, prefix"),
        LookAhead(default),
    ]


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """Markdown, one row per link, SLO and policy."""
    lines = [
        "| Link | SLO s | Policy | Late % (95 %) | Mean KL, 1e-3 nats (95 %) | MB | Text % | Median s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        late = (
            f"{100 * one.violations:.1f} ({100 * one.violations_low:.1f} - {100 * one.violations_high:.1f})"
        )
        kl = f"{1e3 * one.damage:.2f} ({1e3 * one.damage_low:.2f} - {1e3 * one.damage_high:.2f})"
        lines.append(
            f"| {one.scenario.link} | {one.scenario.slo:g} | {one.policy} | {late} | {kl}"
            f" | {one.megabytes:.0f} | {100 * one.text:.0f} | {one.median_seconds:.2f} |"
        )
    return lines


def _interval(scale: float, digits: int, mean: float, low: float, high: float) -> str:
    return f"{scale * mean:.{digits}f} ({scale * low:.{digits}f} - {scale * high:.{digits}f})"


def _from_bench(path: Path, codec: str) -> tuple[LevelFigures, ...]:
    try:
        rows = {row["codec"]: row for row in json.loads(path.read_text())["codecs"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what `sluice codec bench --json` writes") from error
    wanted = [("lossless", EXACT), *((f"{codec} {name}", name) for name in ("high", "balanced", "small"))]
    for label, _ in wanted:
        if label not in rows:
            raise ValueError(f"{path} has no figures for {label!r}")
    return tuple(_figures(name, rows[label]) for label, name in wanted)


def _from_tables(codec: str) -> tuple[LevelFigures, ...]:
    from cache.calibration.library import default_library

    library = default_library()
    path = next((path for path in library.files() if path.name.startswith(f"{codec}-")), None)
    if path is None:
        raise ValueError(f"there are no tables of {codec}; make some with `sluice codec train`")
    levels = library.tables(codec, bytes.fromhex(path.stem.rpartition("-")[2])).levels
    unmeasured = [name for name in ("high", "balanced", "small") if not levels[name].quality]
    if unmeasured:
        raise ValueError(f"{path} has levels that were not measured: {', '.join(unmeasured)}")
    lossy = (_figures(name, levels[name].quality) for name in ("high", "balanced", "small"))
    return (LevelFigures(EXACT, LOSSLESS_BITS, 0.0), *lossy)


def _figures(name: str, row: Any) -> LevelFigures:
    return LevelFigures(name, float(row["framed_bits_per_element"]), float(row["kl"]))


def _draw(outcomes: Sequence[Outcome], path: Path) -> None:
    try:
        import matplotlib

        matplotlib.use("svg")
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        _fail("--plot needs matplotlib: pip install 'sluice[loadtest]'")
    matplotlib.rcParams["svg.hashsalt"] = "sluice"
    links = list(dict.fromkeys(one.scenario.link for one in outcomes))
    figure, axes = plt.subplots(2, len(links), figsize=(3.4 * len(links), 6), squeeze=False, sharey="row")
    for column, link in enumerate(links):
        for policy in _PLOTTED:
            mine = [one for one in outcomes if one.scenario.link == link and one.policy == policy]
            if not mine:
                continue
            slos = [one.scenario.slo for one in mine]
            dashes = "--" if policy == ORACLE else ":" if policy.startswith("only") else "-"
            rates = [100 * one.violations for one in mine]
            (line,) = axes[0][column].plot(slos, rates, dashes, marker="o", markersize=3, label=policy)
            low = [100 * one.violations_low for one in mine]
            high = [100 * one.violations_high for one in mine]
            axes[0][column].fill_between(slos, low, high, color=line.get_color(), alpha=0.1)
            damage = [1e3 * one.damage for one in mine]
            axes[1][column].plot(slos, damage, dashes, marker="o", markersize=3, color=line.get_color())
        axes[0][column].set(title=f"{link} (simulated)", xscale="log")
        axes[1][column].set(xscale="log", xlabel="SLO, s")
        for axis in axes[:, column]:
            axis.set_xticks(slos, labels=[f"{one:g}" for one in slos], minor=False)
            axis.minorticks_off()
            axis.grid(visible=True, alpha=0.3)
    axes[0][0].set_ylabel("late, %")
    axes[1][0].set_ylabel("mean KL, 1e-3 nats")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=8)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _fail(message: str) -> NoReturn:
    typer.echo(f"sluice: {message}", err=True)
    raise typer.Exit(2)
