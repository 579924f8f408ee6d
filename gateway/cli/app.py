"""The command tree. A sub-command's module is imported when it is asked for, so that `serve` starts fast."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

COMMANDS: dict[str, str] = {
    "serve": "gateway.cli.serve",
    "worker": "gateway.cli.worker",
    "chat": "gateway.cli.chat",
    "doctor": "gateway.cli.doctor",
    "install-engine": "gateway.cli.install_engine",
    "key": "gateway.access.cli",
    "settings": "gateway.cli.settings",
    "cache": "gateway.cli.cache",
    "codec": "gateway.cli.codec",
    "demo": "engine_adapter.demo.cli",
    "lab": "gateway.cli.lab",
    "version": "gateway.cli.version",
}
"""Sub-command -> module that holds its Typer application as `app`."""


class LazyGroup(TyperGroup):
    """A group that knows its sub-commands by name and imports them by need."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of `COMMANDS`, which is that of a first use."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The sub-command, or None if there is none of that name."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run it. A file that cannot be read or written is told in a line; `serve` and `worker` say more."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None or ctx.invoked_subcommand in ("serve", "worker"):
                raise
            typer.echo(f"sluice: {error.filename}: {error.strerror}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from gateway.cli.version import sluice_version

        typer.echo(f"sluice {sluice_version()}")
        raise typer.Exit


@app.callback()
def sluice(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Sluice: an OpenAI-compatible gateway over vLLM.

    Start a model and its gateway, then talk to it with any OpenAI client:

        sluice serve
        sluice serve --model ~/models/qwen3-8b --workers 2
        sluice serve --worker-url http://10.0.0.7:8000 --worker-url http://10.0.0.8:8000
        sluice chat "Hello, who are you?"

    Something does not work? `sluice doctor` looks for the cause.
    """
