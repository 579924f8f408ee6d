"""`sluice cache`: what the KV layers hold, and what may be done with it, through a running gateway."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer

from cache.control import LONGEST_SECONDS
from gateway.cli.cache_simulate import simulate
from gateway.cli.grouped import grouped
from gateway.cli.stream_simulate import simulate_stream

app = typer.Typer(add_completion=False, no_args_is_help=True)
Fields = dict[str, Any]

Seconds = Annotated[float, typer.Option(help="How long it may take.", max=LONGEST_SECONDS)]
RewrittenTier = Annotated[str, typer.Option(help="Tier whose copies are rewritten.")]


@dataclass(frozen=True)
class Gateway:
    """Whom to ask, and how to show the answer."""

    url: Annotated[str, typer.Option(help="The gateway.", envvar="SLUICE_URL")] = "http://127.0.0.1:8080"
    worker: Annotated[str | None, typer.Option(help="Only this worker.", show_default="every one")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False


@dataclass(frozen=True)
class Prompt:
    """The chunks of one prompt."""

    prompt: Annotated[
        str | None, typer.Option(help="The chunks of this text, as for /v1/completions.", show_default=False)
    ] = None
    messages: Annotated[
        Path | None,
        typer.Option(help="The chunks of the conversation in this JSON file: a list of messages."),
    ] = None
    tenant: Annotated[str, typer.Option(help="Whose chunks.")] = ""
    quality: Annotated[str, typer.Option(help="Of which quality.")] = "exact"
    adapter: Annotated[str, typer.Option(help="Of which LoRA adapter.", show_default="of none")] = ""

    def selection(self) -> Fields:
        """As the gateway takes it."""
        return self._one_of({"--prompt": self.prompt, "--messages": self.messages})

    def _one_of(self, ways: Mapping[str, Any]) -> Fields:
        given = [name for name, value in ways.items() if value]
        if len(given) != 1:
            _fail(
                f"say which chunks by one of {', '.join(ways)}"
                + (f"; not {' and '.join(given)}" if given else "")
            )
        select: Fields = {"tenant": self.tenant, "quality": self.quality, "adapter": self.adapter}
        match given[0]:
            case "--key":
                return {"select": {**select, "keys": ways["--key"]}}
            case "--all":
                return {"select": {**select, "everything": True}}
            case "--prompt":
                return {"select": select, "prompt": self.prompt}
        return {"select": select, "messages": _conversation(ways["--messages"])}


@dataclass(frozen=True)
class Chunks(Prompt):
    """The chunks of one prompt, or others."""

    key: Annotated[
        list[str] | None, typer.Option("--key", help="A chunk by its key, see `list`; may be repeated.")
    ] = None
    everything: Annotated[
        bool, typer.Option("--all", help="Every chunk, or every one of --tenant and --adapter.")
    ] = False

    def selection(self) -> Fields:
        """As the gateway takes it."""
        ways = {"--prompt": self.prompt, "--messages": self.messages}
        return self._one_of({**ways, "--key": self.key, "--all": self.everything})


@app.callback()
def cache() -> None:
    """See and steer the KV caches beside the workers.

    A gateway has to run; what is asked goes to all of its workers:

        sluice cache stats
        sluice cache lookup --prompt "You are a helpful assistant. ..."
        sluice cache pin --messages system.json --owner nightly --seconds 86400
        sluice cache move --all --source memory --target valkey --keep

    A key with admin rights is read from OPENAI_API_KEY, where the gateway asks for one.
    """


@app.command()
@grouped
def stats(at: Gateway) -> None:
    """Tiers, fill and hits, over all workers."""
    answer = _get(at, "")
    if at.as_json:
        _print_json(answer)
        return
    for line in stats_table(answer):
        typer.echo(line)


@app.command("list")
@grouped
def list_chunks(
    at: Gateway,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.", show_default="of all")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Only of this LoRA adapter.", show_default="of all")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many from each worker.")] = 50,
) -> None:
    """Known chunks, those in memory first."""
    answer = _get(at, "/chunks", tenant=tenant, adapter=adapter, limit=limit)
    if at.as_json:
        _print_json(answer)
        return
    for name, found in answer["workers"].items():
        if "error" in found:
            typer.echo(f"{name}: {found['error']}", err=True)
            continue
        for chunk in found["chunks"]:
            where = ", ".join(f"{tier} {_bytes(size)}" for tier, size in chunk["tiers"].items())
            pinned = f"  pinned by {', '.join(chunk['pins'])}" if chunk.get("pins") else ""
            whose = "".join(f"  {what} {chunk[what]}" for what in ("tenant", "adapter") if chunk.get(what))
            typer.echo(f"{name}  {chunk['key']}  at {chunk.get('position', 0)}  {where}{whose}{pinned}")


@app.command()
@grouped
def health(at: Gateway) -> None:
    """Which tiers answer."""
    answer = _get(at, "/health")
    if at.as_json:
        _print_json(answer)
        return
    for name, found in answer["workers"].items():
        said = found.get("error") or ", ".join(
            f"{tier} {'ok' if up else 'does not answer'}" for tier, up in found["tiers"].items()
        )
        typer.echo(f"{name}: {said}")


@app.command()
@grouped
def lookup(chunks: Prompt, at: Gateway) -> None:
    """How much of a prompt is kept, and in which tiers."""
    _command("lookup", chunks.selection(), at)


@app.command()
@grouped
def prefetch(chunks: Prompt, at: Gateway, seconds: Seconds = 30.0) -> None:
    """Bring a prompt's chunks from slower tiers into memory."""
    _command("prefetch", chunks.selection(), at, seconds=seconds)


@app.command()
@grouped
def pin(
    owner: Annotated[str, typer.Option(help="Who pins: `unpin` asks for the same name.")],
    chunks: Chunks,
    at: Gateway,
    seconds: Annotated[float, typer.Option(help="How long; every pin ends.")] = 3600.0,
) -> None:
    """Keep chunks from eviction for a time."""
    _command("pin", chunks.selection(), at, owner=owner, seconds=seconds)


@app.command()
@grouped
def unpin(owner: Annotated[str, typer.Option(help="Whose pins end.")], chunks: Chunks, at: Gateway) -> None:
    """End an owner's pins."""
    _command("unpin", chunks.selection(), at, owner=owner)


@app.command()
@grouped
def clear(chunks: Chunks, at: Gateway) -> None:
    """Forget chunks in every tier."""
    _command("clear", chunks.selection(), at)


@app.command()
@grouped
def move(
    source: Annotated[str, typer.Option(help="Tier to take from, e.g. memory.")],
    target: Annotated[str, typer.Option(help="Tier to write to, e.g. file.")],
    chunks: Chunks,
    at: Gateway,
    keep: Annotated[bool, typer.Option("--keep", help="Copy: leave them in the source, too.")] = False,
    seconds: Seconds = 60.0,
) -> None:
    """Move or copy chunks from one tier to another. The new copy is whole before the old one goes."""
    _command("move", chunks.selection(), at, source=source, target=target, keep=keep, seconds=seconds)


@app.command()
@grouped
def compress(
    tier: RewrittenTier,
    chunks: Chunks,
    at: Gateway,
    codec: Annotated[str, typer.Option(help="A lossless codec, see `sluice codec list`.")] = "lossless",
    seconds: Seconds = 60.0,
) -> None:
    """Write a tier's copies again, smaller."""
    _command("compress", chunks.selection(), at, tier=tier, codec=codec, seconds=seconds)


@app.command()
@grouped
def decompress(tier: RewrittenTier, chunks: Chunks, at: Gateway, seconds: Seconds = 60.0) -> None:
    """Write a tier's copies again as they were: faster to read, larger."""
    _command("compress", chunks.selection(), at, tier=tier, codec="raw", seconds=seconds)


app.command()(simulate)
app.command()(simulate_stream)


def stats_table(answer: Mapping[str, Any]) -> Iterator[str]:
    """Lines for people: one per tier, tenant and namespace, then one per worker that does not answer."""
    yield "tier       chunks       used         of      hits     saves  dropped  faults"
    for name, tier in answer["tiers"].items():
        capacity = tier["capacity_bytes"]
        yield (
            f"{name:<8} {tier['chunks']:>8} {_bytes(tier['used_bytes']):>10}"
            f" {_bytes(capacity) if capacity else '-':>10} {tier['hits']:>9} {tier['saves']:>9}"
            f" {tier['dropped']:>8} {tier['faults']:>7}{'' if tier['available'] else '  does not answer'}"
        )
    for tenant, share in sorted(answer["tenants"].items()):
        if tenant or len(answer["tenants"]) > 1:
            yield f"tenant {tenant or '(none)'}: {_share(share)}"
    for digest, share in sorted(answer["namespaces"].items()):
        what = [f"tenant {share['tenant']}"] if share.get("tenant") else []
        what += [f"adapter {share['adapter']}"] if share.get("adapter") else []
        what += [share["quality"]] if share.get("quality") else []
        described = f" ({', '.join(what)})" if what else ""
        yield f"namespace {digest}{described}: {_share(share)}"
    if not answer["workers"]:
        yield "No worker has a KV layer that can be asked."
    for name, worker in answer["workers"].items():
        if "error" in worker:
            yield f"{name}: {worker['error']}"


def _share(share: Mapping[str, Any]) -> str:
    """What somebody has in each tier, and of how much where that is bounded."""
    used, quotas = share["used"], share.get("quotas", {})
    return ", ".join(
        f"{tier} {_bytes(nbytes)}" + (f" of {_bytes(quotas[tier])}" if tier in quotas else "")
        for tier, nbytes in used.items()
    )


def _conversation(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        _fail(f"{file}: {error}")


def _command(verb: str, select: Fields, at: Gateway, **more: Any) -> None:
    """Give a command to the workers, and say what each did."""
    answer = _ask("POST", at.url, f"/{verb}", json={**select, "worker": at.worker, **more})
    if at.as_json:
        _print_json(answer)
        return
    failed = False
    for name, outcome in answer["workers"].items():
        if "error" in outcome:
            failed = True
            typer.echo(f"{name}: {outcome['error']}", err=True)
            continue
        tiers = ", ".join(f"{tier} {tokens}" for tier, tokens in outcome.get("tiers", {}).items())
        # A worker leaves out what is nothing.
        tokens = (
            f", {outcome.get('tokens', 0)} of {answer['tokens']} tokens"
            if verb in ("lookup", "prefetch")
            else ""
        )
        typer.echo(
            f"{name}: {verb} {outcome['done']} of {outcome['selected']} chunks{tokens}"
            + (f" ({tiers})" if tiers else "")
        )
    if not answer["workers"]:
        _fail("no worker has a KV layer that can be asked")
    if failed:
        raise typer.Exit(1)


def _get(at: Gateway, path: str, **query: Any) -> Fields:
    asked = {"worker": at.worker, **query}
    return _ask(
        "GET", at.url, path, params={name: value for name, value in asked.items() if value is not None}
    )


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
