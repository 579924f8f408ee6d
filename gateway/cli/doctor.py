"""`sluice doctor`: is everything here that `sluice serve` needs?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from engine_adapter import doctor as checks
from engine_adapter import install
from engine_adapter.doctor import Finding
from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.ports import is_free, port_owner
from engine_adapter.vllm import pin
from gateway.cli.flags import ConfigOption, ModelOption, fail, flag_layer, state_directory
from gateway.config import SettingsError
from gateway.settings import Settings, load

app = typer.Typer(add_completion=False)

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.command()
def doctor(
    model: ModelOption = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="Port to look at.", show_default="8080")
    ] = None,
    config: ConfigOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not import vLLM (saves ten seconds).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Check the set-up and say in one line how to mend what is wrong. Exit status 1 if anything failed."""
    try:
        settings = load(config, os.environ, flag_layer(model=model, port=port))
    except SettingsError as error:
        fail(*error.problems)
    findings: list[Finding] = []
    for finding in examine(settings, quick=quick):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    raise typer.Exit(any(finding.level == "fail" for finding in findings))


def examine(settings: Settings, *, quick: bool = False) -> Iterator[Finding]:
    """All checks, the cheap ones first."""
    hardware = Hardware.detect()
    found = pin.installed()
    yield checks.check_python()
    yield checks.check_platform()
    yield checks.check_package_names()
    yield check_port(settings.listen.host, settings.listen.port)
    yield check_page()
    yield checks.check_disk(state_directory(settings.supervision.state_dir, settings.listen.port))
    yield checks.check_memory(hardware)
    yield checks.check_open_files()
    yield checks.check_gpu(hardware)
    if settings.engine.started_workers == 0 or settings.engine.kind == "fake":
        return
    yield checks.check_model(settings.engine.model)
    yield from checks.check_engine(install.facts(), found)
    if not quick and pin.version_problem(found) is None:
        yield checks.check_engine_internals()


def check_port(host: str, port: int) -> Finding:
    if port == 0 or is_free(host, port):
        return Finding("port", "ok", f"port {port} is free")
    text = f"port {port} is in use by {port_owner(port) or 'another program'}"
    return Finding(
        "port", "warn", text, "fine if that is Sluice itself; otherwise choose another with --port"
    )


def check_page() -> Finding:
    from gateway.api.routes.pages import find_page

    directory = find_page()
    if directory is None:
        remedy = "install Node 20 or newer and run `make serve` or `make page`"
        return Finding("page", "warn", "the chat page is not built; the API works without it", remedy)
    return Finding("page", "ok", f"built, in {directory}")


def _print(finding: Finding) -> None:
    colour = _COLOURS[finding.level] if sys.stdout.isatty() else None
    level = typer.style(f"{finding.level.upper():<4}", fg=colour)
    typer.echo(f"{level}  {finding.check}: {finding.text}")
    if finding.remedy:
        typer.echo(f"      -> {finding.remedy}")
