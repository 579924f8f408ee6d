"""`sluice version`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Annotated

import typer

from engine_adapter.vllm import pin

app = typer.Typer(add_completion=False)


@app.command()
def version(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show the versions of Sluice, of the engine and of Python."""
    found = pin.installed()
    facts = {
        "sluice": sluice_version(),
        "engine": f"{found.distribution} {found.version}" if found.version else None,
        "engine_wanted": pin.VLLM_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"sluice {facts['sluice']}")
    typer.echo(f"engine {facts['engine'] or 'not installed (sluice install-engine)'}")
    typer.echo(f"python {facts['python']} on {facts['platform']}")


def sluice_version() -> str:
    """The installed version; `unknown` when run from files that were never installed."""
    try:
        return importlib.metadata.version("sluice")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
