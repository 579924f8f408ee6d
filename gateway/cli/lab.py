"""`sluice lab`: experiments on the product's own code that anyone can repeat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.flags import fail

app = typer.Typer(no_args_is_help=True, add_completion=False)

SEEDS = 200
REAL_SEEDS = 4
DEFAULT_SCHEMES = "oracle,sse,retransmit,dup2,fec,eloquent"


@app.callback()
def lab() -> None:
    """Repeat the project's experiments, or try them on a link like yours.

    What arrives late, and by how much, with each way to send tokens:

        sluice lab stream
        sluice lab stream --link rtt=60,loss=10%,burst=150 --schemes sse,eloquent

    Time is virtual, so minutes of a bad network take seconds.
    """


@app.command()
def stream(
    link: Annotated[
        list[str] | None,
        typer.Option(
            help="`published`, a name of that set, or `rtt=100,loss=5%,burst=100,...`; repeat for several."
        ),
    ] = None,
    schemes: Annotated[str, typer.Option(help="Some of those that --list shows.")] = DEFAULT_SCHEMES,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Answers per link and scheme; the same for every scheme.",
            show_default=f"{SEEDS}, with --real {REAL_SEEDS}",
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="NAME=A,B,...", help="Vary one property of one link, e.g. rtt=20,100,400."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the summary and every seed's metrics here.")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Write the tables here, as Markdown.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a chart here (SVG, PNG, PDF).")] = None,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="Real packets instead: this gateway, a lossy link between network namespaces, Chromium. "
            "SSE, retransmission, duplication, Eloquent; --link then picks by a part of the name. "
            "From a clone, as root.",
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="Show links and schemes, and do nothing.")] = False,
) -> None:
    """Compare ways to send tokens over a bad network, in virtual time.

    Each scheme meets the same bad periods. *stall* is the share of time in gaps of more than 200 ms between
    shown tokens, *late* the share of time in which the next token is more than 50 ms behind a fixed schedule.
    Bytes include all headers.

        sluice lab stream --link published --seeds 200 --json out.json --plot out.svg
        sluice lab stream --link rtt=60,loss=10%,burst=150,tokens=30 --schemes sse,eloquent
        sluice lab stream --link "short outages" --sweep rtt=20,50,100,200,400
    """
    if real:
        raise typer.Exit(_run_real(seeds or REAL_SEEDS, link or [""], table, json_file))
    from gateway.lab import stream as lab
    from gateway.lab import tables
    from gateway.lab.links import PUBLISHED, parse_links
    from gateway.lab.schemes import SCHEMES

    if show:
        for name, scheme in SCHEMES.items():
            typer.echo(f"{name:<20} {scheme.what}")
        typer.echo("\npublished links: " + "; ".join(known.name for known in PUBLISHED))
        return
    try:
        links = [one for text in link or ["published"] for one in parse_links(text)]
        parameter, _, values = (sweep or "").partition("=")
        if sweep:
            links = lab.sweep(links, parameter, values)
        if plot is not None:
            _need_matplotlib()
        cells = lab.compare(
            links,
            schemes.split(","),
            max(2, seeds or SEEDS),
            lambda cell: typer.echo(tables.line(lab.outline(cell))),
        )
    except ValueError as error:
        fail(str(error))
    summary = lab.summary(cells)
    typer.echo("\nMean over all links; x: stall as a multiple of the other scheme's")
    for text in tables.overall_lines(summary):
        typer.echo(text)
    if json_file is not None:
        json_file.write_text(json.dumps({**summary, "samples": lab.samples(cells)}) + "\n")
    if table is not None:
        table.write_text(tables.markdown(summary))
    if plot is not None:
        from gateway.lab import plots

        if sweep:
            plots.lines(summary, parameter, plot)
        else:
            plots.bars(summary, plot)


def _run_real(seeds: int, links: list[str], table: Path | None, json_file: Path | None) -> int:
    """Run the measurement that lives beside the load tests; its exit status."""
    clone = Path(__file__).resolve().parents[2]
    if not (clone / "loadtests" / "stream").is_dir():
        fail("--real needs a clone of the repository: it drives the page's own client in a browser")
    status = 0
    for link in links:
        command = [sys.executable, "-m", "loadtests.stream", "--seeds", str(seeds), "--only", link]
        command += ["--table", str(table.resolve())] if table else []
        command += ["--json", str(json_file.resolve())] if json_file else []
        status = status or subprocess.run(command, cwd=clone, check=False).returncode
    return status


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("--plot needs matplotlib: pip install 'sluice[loadtest]'") from None
