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
from engine_adapter.vllm import pin
from gateway.cli import doctor_gateway as gateway_checks
from gateway.cli.flags import ConfigOption, ModelOption, fail, flag_layer, state_directory
from gateway.config import SettingsError
from gateway.settings import Settings, load

app = typer.Typer(add_completion=False)

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.command()
def doctor(
    model: ModelOption = None,
    worker_url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A vLLM server that should answer.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="Port to look at.", show_default="8080")
    ] = None,
    config: ConfigOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not import vLLM (saves ten seconds).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Check the set-up and say in one line how to mend what is wrong.

    Give it what you give `sluice serve`; nothing is started, installed or changed:

        sluice doctor
        sluice doctor --model ./my-model --port 9000
        sluice doctor --config sluice.yaml

    Exit status 1 if anything failed.
    """
    try:
        flags = flag_layer(model=model, worker_url=worker_url, host=host, port=port)
        settings = load(config, os.environ, flags)
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
    yield checks.check_python()
    yield checks.check_platform()
    yield checks.check_package_names()
    yield checks.check_port(settings.listen.host, settings.listen.port)
    yield gateway_checks.check_access(settings)
    yield gateway_checks.check_page()
    yield from gateway_checks.check_extras(settings)
    yield checks.check_disk(state_directory(settings.supervision.state_dir, settings.listen.port))
    yield checks.check_memory(Hardware.detect())
    yield checks.check_open_files()
    yield from gateway_checks.check_workers_elsewhere(settings)
    if settings.engine.started_workers == 0 or settings.engine.kind == "fake":
        return
    known = install.facts()
    yield checks.check_gpu(known.nvidia)
    yield checks.check_model(settings.engine.model)
    broken = False
    for finding in checks.check_engine(known, pin.installed()):
        broken |= finding.level == "fail"
        yield finding
    # What is broken already would only be reported once more, in vLLM's words.
    if not quick and not broken:
        yield checks.check_engine_internals()


def _print(finding: Finding) -> None:
    colour = _COLOURS[finding.level] if sys.stdout.isatty() else None
    level = typer.style(f"{finding.level.upper():<4}", fg=colour)
    typer.echo(f"{level}  {finding.check}: {finding.text}")
    if finding.remedy:
        typer.echo(f"      -> {finding.remedy}")
