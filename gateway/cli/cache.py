"""`sluice cache`: what the KV layers hold, and what may be done with it, through a running gateway."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer

from cache.control import LONGEST_SECONDS
from gateway.cli.cache_simulate import simulate
from gateway.cli.stream_simulate import simulate_stream

app = typer.Typer(add_completion=False, no_args_is_help=True)
Fields = dict[str, Any]

UrlOption = Annotated[str, typer.Option(metavar="URL", help="The gateway.", envvar="SLUICE_URL")]
WorkerOption = Annotated[str | None, typer.Option(help="Only this worker.", show_default="every one")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
PromptOption = Annotated[
    str | None, typer.Option(help="The chunks of this text, as for /v1/completions.", show_default=False)
]
MessagesOption = Annotated[
    Path | None,
    typer.Option(help="The chunks of the conversation in this JSON file: a list of messages."),
]
KeyOption = Annotated[
    list[str] | None, typer.Option("--key", help="A chunk by its key, see `list`; may be repeated.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every chunk, or every one of --tenant.")]
TenantOption = Annotated[str, typer.Option(help="Whose chunks.")]
QualityOption = Annotated[str, typer.Option(help="Of which quality.")]
SecondsOption = Annotated[float, typer.Option(help="How long it may take.", max=LONGEST_SECONDS)]
_LOCAL = "http://127.0.0.1:8080"


@app.callback()
def cache() -> None:
    """See and steer the KV caches beside the workers, through a gateway that runs.

    How full they are, what they hold of a prompt, and what is to stay or to move:

        sluice cache stats
        sluice cache lookup --prompt "You are a helpful assistant. ..."
        sluice cache pin --messages system.json --owner nightly --seconds 86400
        sluice cache move --all --source memory --target valkey --keep

    A key with admin rights is read from OPENAI_API_KEY, where the gateway asks for one.
    """


@app.command()
def stats(url: UrlOption = _LOCAL, worker: WorkerOption = None, as_json: JsonOption = False) -> None:
    """Tiers, fill and hits, over all workers."""
    answer = _get(url, "", {"worker": worker})
    if as_json:
        _print_json(answer)
        return
    for line in stats_table(answer):
        typer.echo(line)


@app.command("list")
def list_chunks(
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.", show_default="of all")] = None,
    limit: Annotated[int, typer.Option(help="At most so many from each worker.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Known chunks, those in memory first."""
    answer = _get(url, "/chunks", {"worker": worker, "tenant": tenant, "limit": limit})
    if as_json:
        _print_json(answer)
        return
    for name, found in answer["workers"].items():
        if "error" in found:
            typer.echo(f"{name}: {found['error']}", err=True)
            continue
        for chunk in found["chunks"]:
            where = ", ".join(f"{tier} {_bytes(size)}" for tier, size in chunk["tiers"].items())
            pinned = f"  pinned by {', '.join(chunk['pins'])}" if chunk.get("pins") else ""
            tenant_name = f"  tenant {chunk['tenant']}" if chunk.get("tenant") else ""
            typer.echo(f"{name}  {chunk['key']}  at {chunk.get('position', 0)}  {where}{tenant_name}{pinned}")


@app.command()
def health(url: UrlOption = _LOCAL, worker: WorkerOption = None, as_json: JsonOption = False) -> None:
    """Which tiers answer."""
    answer = _get(url, "/health", {"worker": worker})
    if as_json:
        _print_json(answer)
        return
    for name, found in answer["workers"].items():
        said = found.get("error") or ", ".join(
            f"{tier} {'ok' if up else 'does not answer'}" for tier, up in found["tiers"].items()
        )
        typer.echo(f"{name}: {said}")


@app.command()
def lookup(
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """How much of a prompt is kept, and in which tiers."""
    fields = _selection(prompt, messages, None, False, tenant, quality)
    _command(url, "lookup", {**fields, "worker": worker}, as_json)


@app.command()
def prefetch(
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    seconds: SecondsOption = 30.0,
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a prompt's chunks from slower tiers into memory."""
    fields = _selection(prompt, messages, None, False, tenant, quality)
    _command(url, "prefetch", {**fields, "worker": worker, "seconds": seconds}, as_json)


@app.command()
def pin(
    owner: Annotated[str, typer.Option(help="Who pins: `unpin` asks for the same name.")],
    seconds: Annotated[float, typer.Option(help="How long; every pin ends.")] = 3600.0,
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep chunks from eviction for a time."""
    fields = _selection(prompt, messages, key, everything, tenant, quality)
    _command(url, "pin", {**fields, "worker": worker, "owner": owner, "seconds": seconds}, as_json)


@app.command()
def unpin(
    owner: Annotated[str, typer.Option(help="Whose pins end.")],
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an owner's pins."""
    fields = _selection(prompt, messages, key, everything, tenant, quality)
    _command(url, "unpin", {**fields, "worker": worker, "owner": owner}, as_json)


@app.command()
def clear(
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget chunks in every tier."""
    fields = _selection(prompt, messages, key, everything, tenant, quality)
    _command(url, "clear", {**fields, "worker": worker}, as_json)


@app.command()
def move(
    source: Annotated[str, typer.Option(help="Tier to take from, e.g. memory.")],
    target: Annotated[str, typer.Option(help="Tier to write to, e.g. file.")],
    keep: Annotated[bool, typer.Option("--keep", help="Copy: leave them in the source, too.")] = False,
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    seconds: SecondsOption = 60.0,
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move or copy chunks from one tier to another. The new copy is whole before the old one goes."""
    fields = _selection(prompt, messages, key, everything, tenant, quality)
    fields |= {"source": source, "target": target, "keep": keep, "seconds": seconds}
    _command(url, "move", {**fields, "worker": worker}, as_json)


@app.command()
def compress(
    tier: Annotated[str, typer.Option(help="Tier whose copies are rewritten.")],
    codec: Annotated[str, typer.Option(help="A lossless codec, see `sluice codec list`.")] = "lossless",
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    seconds: SecondsOption = 60.0,
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a tier's copies again, smaller."""
    fields = _selection(prompt, messages, key, everything, tenant, quality)
    fields |= {"tier": tier, "codec": codec, "seconds": seconds}
    _command(url, "compress", {**fields, "worker": worker}, as_json)


@app.command()
def decompress(
    tier: Annotated[str, typer.Option(help="Tier whose copies are rewritten.")],
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    quality: QualityOption = "exact",
    seconds: SecondsOption = 60.0,
    url: UrlOption = _LOCAL,
    worker: WorkerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a tier's copies again as they were: faster to read, larger."""
    fields = _selection(prompt, messages, key, everything, tenant, quality)
    fields |= {"tier": tier, "codec": "raw", "seconds": seconds}
    _command(url, "compress", {**fields, "worker": worker}, as_json)


app.command()(simulate)
app.command()(simulate_stream)


def stats_table(answer: Mapping[str, Any]) -> Iterator[str]:
    """Lines for people: one per tier, then one per worker that does not answer."""
    yield "tier       chunks       used         of      hits     saves  dropped  faults"
    for name, tier in answer["tiers"].items():
        capacity = tier["capacity_bytes"]
        yield (
            f"{name:<8} {tier['chunks']:>8} {_bytes(tier['used_bytes']):>10}"
            f" {_bytes(capacity) if capacity else '-':>10} {tier['hits']:>9} {tier['saves']:>9}"
            f" {tier['dropped']:>8} {tier['faults']:>7}{'' if tier['available'] else '  does not answer'}"
        )
    if not answer["workers"]:
        yield "No worker has a KV layer that can be asked."
    for name, worker in answer["workers"].items():
        if "error" in worker:
            yield f"{name}: {worker['error']}"


def _selection(
    prompt: str | None,
    messages: Path | None,
    keys: list[str] | None,
    everything: bool,
    tenant: str,
    quality: str,
) -> Fields:
    given = [
        name for name, value in (("--prompt", prompt), ("--messages", messages), ("--key", keys)) if value
    ]
    given += ["--all"] if everything else []
    if len(given) != 1:
        _fail(
            "say which chunks by one of --prompt, --messages, --key, --all"
            + (f"; not {' and '.join(given)}" if given else "")
        )
    select: Fields = {"tenant": tenant, "quality": quality}
    if keys:
        return {"select": {**select, "keys": keys}}
    if everything:
        return {"select": {**select, "everything": True}}
    if prompt is not None:
        return {"select": select, "prompt": prompt}
    assert messages is not None
    try:
        return {"select": select, "messages": json.loads(messages.read_text())}
    except (OSError, ValueError) as error:
        _fail(f"{messages}: {error}")


def _command(url: str, verb: str, fields: Fields, as_json: bool) -> None:
    answer = _ask("POST", url, f"/{verb}", json=fields)
    if as_json:
        _print_json(answer)
        return
    failed = False
    for name, outcome in answer["workers"].items():
        if "error" in outcome:
            failed = True
            typer.echo(f"{name}: {outcome['error']}", err=True)
            continue
        tiers = ", ".join(f"{tier} {tokens}" for tier, tokens in outcome.get("tiers", {}).items())
        tokens = f", {outcome['tokens']} of {answer['tokens']} tokens" if answer["tokens"] else ""
        typer.echo(
            f"{name}: {verb} {outcome['done']} of {outcome['selected']} chunks{tokens}"
            + (f" ({tiers})" if tiers else "")
        )
    if not answer["workers"]:
        _fail("no worker has a KV layer that can be asked")
    if failed:
        raise typer.Exit(1)


def _get(url: str, path: str, query: Mapping[str, Any]) -> Fields:
    return _ask("GET", url, path, params={k: v for k, v in query.items() if v is not None})


def _ask(method: str, url: str, path: str, **arguments: Any) -> Fields:
    key = os.environ.get("OPENAI_API_KEY", "")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.request(
            method,
            f"{url.rstrip('/')}/admin/cache{path}",
            headers=headers,
            timeout=LONGEST_SECONDS + 30,
            trust_env=False,
            **arguments,
        )
        found: Fields = answer.json()
    except httpx.HTTPError as error:
        _fail(f"no gateway answers at {url}: {error}; start one with `sluice serve`, or say --url")
    except ValueError:
        _fail(f"{url} is no Sluice gateway: it answers {answer.status_code} without JSON")
    if answer.status_code != 200:
        _fail(found.get("error", {}).get("message") or f"{url} answers {answer.status_code}")
    return found


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))


def _fail(message: str) -> NoReturn:
    typer.echo(f"sluice: {message}", err=True)
    raise typer.Exit(2)
