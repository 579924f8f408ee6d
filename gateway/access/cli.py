"""`sluice key`: make, list and revoke API keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.access.keys import POOL, Key, KeyFileError, append_key, new_key, read_keys, revoke_key

app = typer.Typer(no_args_is_help=True, add_completion=False)

KeyFile = Annotated[
    Path,
    typer.Option(
        "--file", "-f", envvar="SLUICE_ACCESS__KEY_FILE", help="The key file (--api-key-file of serve)."
    ),
]
DEFAULT_FILE = Path("keys.json")


@app.callback()
def key() -> None:
    """Make, list and revoke API keys.

    For a gateway that other machines can reach:

        sluice key create --file keys.json alice
        sluice key create --file keys.json --tenant acme --model sluice-base --admin bob
        sluice serve --host 0.0.0.0 --api-key-file keys.json
        sluice key revoke --file keys.json alice

    The file holds hashes only. Gateways that run notice changes within seconds.
    """


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    file: KeyFile = DEFAULT_FILE,
    tenant: Annotated[
        str, typer.Option(help="Whom its use is counted for; KV caches are shared inside a tenant only.")
    ] = POOL,
    shares_cache: Annotated[
        bool, typer.Option("--shares-cache", help="It shares KV caches with keys of no tenant of their own.")
    ] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it may use; repeat for several.", show_default="all")
    ] = None,
    max_priority: Annotated[int, typer.Option(help="Highest priority it may ask for.")] = 0,
    admin: Annotated[bool, typer.Option("--admin", help="It may use /admin.")] = False,
) -> None:
    """Make a key and print its secret, once. The file keeps its hash only."""
    secret, record = new_key(
        name,
        tenant,
        models=tuple(model) if model else None,
        max_priority=max_priority,
        admin=admin,
        shares_cache=shares_cache,
    )
    try:
        append_key(file, record)
    except (OSError, KeyFileError) as error:
        raise _failure(error) from error
    typer.echo(f"{record.id} for {name} is in {file}. Its secret, shown only now:", err=True)
    typer.echo(secret)


@app.command("list")
def list_keys(file: KeyFile = DEFAULT_FILE) -> None:
    """Show the keys of the file."""
    try:
        keys = read_keys(file)
    except (OSError, KeyFileError) as error:
        raise _failure(error) from error
    for line in _rows(keys):
        typer.echo(line)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id or name; a name revokes every key of that name.")],
    file: KeyFile = DEFAULT_FILE,
) -> None:
    """Put a key out of force. Running gateways notice within seconds."""
    try:
        changed = revoke_key(file, key)
    except (OSError, KeyFileError) as error:
        raise _failure(error) from error
    if not changed:
        typer.echo(f"{file} has no key in force with the id or name {key}; see `sluice key list`.", err=True)
        raise typer.Exit(1)
    for record in changed:
        typer.echo(f"revoked {record.id} ({record.name})")


def _failure(error: Exception) -> typer.Exit:
    reason = f"{error.filename}: no such file" if isinstance(error, FileNotFoundError) else str(error)
    typer.echo(reason, err=True)
    return typer.Exit(1)


def _rows(keys: list[Key]) -> list[str]:
    table = [("ID", "NAME", "TENANT", "MODELS", "PRIORITY", "ADMIN", "CREATED", "STATE")]
    table += [
        (
            key.id,
            key.name,
            key.tenant,
            ",".join(key.models) if key.models is not None else "all",
            str(key.max_priority),
            "yes" if key.admin else "no",
            time.strftime("%Y-%m-%d", time.gmtime(key.created)),
            "revoked" if key.disabled else "in force",
        )
        for key in keys
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
