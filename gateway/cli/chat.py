"""`sluice chat`: talk to a gateway from the command line, over server-sent events or a data channel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from gateway.chat.conversation import Conversation, Summary
from gateway.chat.http import ChatError

app = typer.Typer(add_completion=False)


class Transport(StrEnum):
    """How an answer travels."""

    sse = "sse"
    eloquent = "eloquent"


@app.command()
def chat(
    prompt: Annotated[
        list[str] | None, typer.Argument(help="Say this, print the answer, and leave.", show_default=False)
    ] = None,
    url: Annotated[
        str, typer.Option(metavar="URL", help="The gateway.", envvar="SLUICE_URL")
    ] = "http://127.0.0.1:8080",
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model name.", show_default="the first that is served")
    ] = None,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    transport: Annotated[
        Transport,
        typer.Option(help="`eloquent`: over a WebRTC data channel as soon as it is open."),
    ] = Transport.sse,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest answer.", show_default="the engine's")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 answers the same every time.", show_default="the model's")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line about time beneath answers.")] = False,
) -> None:
    """Chat with a model: one answer to a prompt, or a conversation without one.

    The gateway has to run (`sluice serve`). A conversation is ended by an empty line or Ctrl-D, an answer by
    Ctrl-C:

        sluice chat "Hello, who are you?"
        sluice chat
        sluice chat --url https://gateway.example --model my-model --system "Answer in one word."

    Where the gateway asks for an API key, it is read from OPENAI_API_KEY.
    """
    options: dict[str, object] = {}
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    if temperature is not None:
        options["temperature"] = temperature

    async def run() -> int:
        async with Conversation(
            url,
            model,
            key=os.environ.get("OPENAI_API_KEY", ""),
            system=system,
            options=options,
            eloquent=transport is Transport.eloquent,
        ) as conversation:
            if prompt:
                return await _say(conversation, " ".join(prompt), quiet)
            return await _converse(conversation, quiet)

    try:
        raise typer.Exit(asyncio.run(run()))
    except ChatError as error:
        typer.echo(f"sluice: {error}", err=True)
        raise typer.Exit(1) from error


async def _converse(conversation: Conversation, quiet: bool) -> int:
    status = 0
    while True:
        try:
            line = await asyncio.to_thread(input, "> ")
        except EOFError:
            typer.echo()
            return status
        if not line.strip():
            return status
        status = await _say(conversation, line, quiet)


async def _say(conversation: Conversation, text: str, quiet: bool) -> int:
    """Print the answer as it comes; the exit status that it deserves."""
    answering = asyncio.ensure_future(_print(conversation, text))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(2, answering.cancel)
    try:
        summary = await answering
    except asyncio.CancelledError:
        typer.echo("\n(stopped)", err=True)
        return 130
    except ChatError as error:
        typer.echo(f"\nsluice: {error}", err=True)
        return 1
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(2)
    if not quiet:
        typer.echo(summary.line(), err=True)
    return 0


async def _print(conversation: Conversation, text: str) -> Summary:
    async for piece in conversation.say(text):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return conversation.summary
