"""`sluice install-engine`."""

from __future__ import annotations

from typing import Annotated

import typer

from engine_adapter import install
from gateway.cli.flags import fail

app = typer.Typer(add_completion=False)


@app.command()
def install_engine(
    gpu: Annotated[
        bool | None,
        typer.Option(
            "--gpu/--cpu", help="Which build of vLLM.", show_default="by whether there is an NVIDIA GPU"
        ),
    ] = None,
    reinstall: Annotated[
        bool, typer.Option("--reinstall", help="Take out what is installed first, even if it looks whole.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the pip commands, run nothing.")] = False,
) -> None:
    """Install vLLM into this Python environment, or repair it; does nothing when all is well.

    With an NVIDIA GPU that is `vllm`, otherwise its CPU build without the packages that break it.
    """
    target: install.Target | None = None if gpu is None else ("gpu" if gpu else "cpu")
    try:
        known = install.facts()
        steps = install.plan(known, target, reinstall=reinstall)
        if steps and target is None and (why := install.why_not_on_the_gpu(known)):
            typer.echo(why)
        if dry_run:
            for step in steps:
                typer.echo(f"# {step.title}")
                typer.echo("\n".join("pip " + " ".join(attempt) for attempt in step.attempts[:1]))
        else:
            install.execute(steps, report=typer.echo)
    except install.InstallError as error:
        fail(str(error))
    if not steps:
        typer.echo("The engine is installed.")
