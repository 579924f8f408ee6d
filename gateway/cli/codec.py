"""`sluice codec`: tables for KV codecs, what they reach on a model, and which there are."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cache.calibration.quality import Measured
    from engine_adapter.calibration.session import Session

# Small products of matrices on every core at once are slower than on one, more so on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

app = typer.Typer(no_args_is_help=True, add_completion=False)

ModelOption = Annotated[
    str, typer.Option("--model", help="A shipped model's name, or the folder of a Llama.")
]


def _model_folder(model: str) -> Path:
    from engine_adapter.demo.family import model_folder

    try:
        return model_folder(model)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


def _counter(what: str, of: int) -> Callable[[int], None]:
    started = time.monotonic()

    def seen(number: int) -> None:
        if number == of or number % max(1, of // 10) == 0:
            typer.echo(f"{what} {number}/{of}, {time.monotonic() - started:.0f} s", err=True)

    return seen


@app.callback()
def codec() -> None:
    """KV codecs: which there are, what they cost on a model, tables fitted to a model.

    How small KV becomes, and at what loss:

        sluice codec list
        sluice codec bench --contexts 12 --only weir
        sluice codec train --model ./my-llama --text corpus.txt

    Everything runs here, on the CPU, without a gateway; `train` and `bench` take minutes.
    """


@app.command()
def train(
    model: ModelOption = "base",
    text: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text files to calibrate on; without any, the demo's worlds.", exists=True, dir_okay=False
        ),
    ] = None,
    contexts: Annotated[int, typer.Option(help="Contexts to run the model over.")] = 64,
    length: Annotated[list[int] | None, typer.Option(help="Tokens of a context (repeat the option).")] = None,
    check: Annotated[int, typer.Option(help="Held-out contexts to measure each level on; 0 for none.")] = 24,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: this user's.")] = None,
    ship: Annotated[bool, typer.Option(help="Replace the tables that ship for this model.")] = False,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write what was measured to this file.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Fit the tables of `weir` and `cachegen` for a model, and measure every level on other contexts.

    The tables name the model by the fingerprint of its weights; they are refused for any other.
    """
    from cache.calibration.library import SHIPPED, user_folder
    from cache.calibration.quality import Measured
    from engine_adapter.calibration.session import Session

    session = Session.open(_model_folder(model), threads=threads)
    made = session.train(
        text or [], contexts, length or [512, 1024, 2048], seen=_counter("calibrating: context", contexts)
    )
    if check:
        made = session.checked(made, text or [], check, seen=_counter("measuring: context", check))
    folder = SHIPPED if ship else out or user_folder()
    for path in session.write(made, folder):
        typer.echo(f"{path} ({path.stat().st_size / 1000:.0f} kB)")
    if check:
        rows = [
            Measured.of({**level.quality, "codec": f"{tables.kind} {name}"})
            for tables in made
            for name, level in tables.levels.items()
        ]
        _report(session, model, rows, json_out)


@app.command()
def bench(
    model: ModelOption = "base",
    contexts: Annotated[int, typer.Option(help="Held-out contexts.")] = 120,
    length: Annotated[list[int] | None, typer.Option(help="Tokens of a context (repeat the option).")] = None,
    chunk_tokens: Annotated[int, typer.Option(help="Tokens per chunk; a multiple of 32.")] = 256,
    only: Annotated[list[str] | None, typer.Option(help="Codecs to measure (a part of the label).")] = None,
    dropping: Annotated[
        bool, typer.Option(help="Measure `dropped` instead, on whole contexts; no paged engine can use it.")
    ] = False,
    ablation: Annotated[bool, typer.Option(help="Measure variants of weir and cachegen instead.")] = False,
    calibration: Annotated[int, typer.Option(help="Contexts to fit the variants on.")] = 64,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure size and quality of every codec on a model, against full prefill, counting every byte."""
    from engine_adapter.calibration.session import Session

    session = Session.open(_model_folder(model), threads=threads)
    lengths, measured = length or [512, 1024, 2048, 3500], _counter("measuring: context", contexts)
    if dropping:
        codecs, chunk_tokens = session.dropping(), 0
    elif ablation:
        codecs = session.variants(calibration, seen=_counter("calibrating: context", calibration))
    else:
        codecs = session.codecs()
    if only:
        labels = ", ".join(label for label, _ in codecs)
        codecs = [(label, codec) for label, codec in codecs if any(part in label for part in only)]
        if not codecs:
            raise typer.BadParameter(f"--only fits none of: {labels}")
    rows = session.measure(
        codecs,
        contexts,
        lengths,
        chunk_tokens=chunk_tokens,
        seen=measured,
    )
    _report(session, model, rows, out)


def _report(session: Session, model: str, rows: list[Measured], out: Path | None) -> None:
    from cache.calibration.quality import table

    typer.echo(table(rows))
    if out is not None:
        record = {
            "model": model,
            "weights": session.weights,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": _command(),
            "codecs": [row.record() for row in rows],
        }
        out.write_text(json.dumps(record, indent=1) + "\n")


def _command() -> str:
    """This command as somebody else would repeat it: without where its files went."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    places = {at + more for at, word in enumerate(words) if word in ("--json", "--out") for more in (0, 1)}
    return " ".join(word for at, word in enumerate(words) if at not in places)


@app.command("list")
def list_tables() -> None:
    """Show the codecs, and the tables at hand with what was measured about them."""
    from cache.calibration.library import default_library
    from cache.codecs import registry

    typer.echo(f"codecs: {', '.join(registry.names())}")
    library = default_library()
    for path in library.files():
        kind, _, digest = path.stem.rpartition("-")
        tables = library.tables(kind, bytes.fromhex(digest))
        typer.echo(f"{path}: for weights {tables.weights}")
        for name, level in tables.levels.items():
            figures = ", ".join(f"{key} {level.quality[key]}" for key in _SHOWN if key in level.quality)
            typer.echo(f"  {name}: {figures or 'not measured'}")


_SHOWN = ("bits_per_element", "kl", "top1", "accuracy", "accuracy_full", "contexts")
