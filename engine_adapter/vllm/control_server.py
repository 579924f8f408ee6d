"""The control API of one engine's KV layer: a small HTTP server beside the scheduler, on a thread of its own.

    POST /command   a `cache.control.Command` as JSON  ->  an Outcome
    GET  /chunks?limit=100&tenant=&adapter=   known chunks
    GET  /stats                      counters and fill of every tier; what tenants and namespaces have
    GET  /health                     which tiers answer

Workers that Sluice starts listen on a UNIX socket in a directory that only this user may enter. A TCP address
needs a token (`SLUICE_KV_TOKEN` in the worker's environment), sent as `Authorization: Bearer ...`.
"""

from __future__ import annotations

import hmac
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cache.control import CommandError, read_command
from cache.operator import Operator

logger = logging.getLogger("vllm.sluice")

TOKEN_VARIABLE = "SLUICE_KV_TOKEN"
MOST_BYTES = 8 << 20
"""Of one command: the tokens of a prompt, written out."""
_MOST_CHUNKS = 100_000
_STOP_SECONDS = 5.0

Answer = Callable[[Request], Awaitable[Response]]


def application(operator: Operator, token: str | None) -> Starlette:
    """The HTTP application; `token` None asks for none."""
    encoder = msgspec.json.Encoder(enc_hook=str)

    def reply(value: object, status: int = 200) -> Response:
        return Response(encoder.encode(value), status, media_type="application/json")

    def guarded(answer: Answer) -> Answer:
        async def check(request: Request) -> Response:
            sent = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
            if token is not None and not hmac.compare_digest(sent, token.encode()):
                return reply({"error": "wrong or missing token"}, 401)
            try:
                return await answer(request)
            except CommandError as error:
                return reply({"error": str(error)}, 400)

        return check

    async def command(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise CommandError(f"a command has at most {MOST_BYTES} bytes")
        wanted = read_command(bytes(body))
        return reply(await run_in_threadpool(operator.carry_out, wanted))

    async def chunks(request: Request) -> Response:
        text = request.query_params.get("limit", "100")
        if not text.isdecimal() or not 0 < int(text) <= _MOST_CHUNKS:
            raise CommandError(f"limit is a number from 1 to {_MOST_CHUNKS}")
        asked = request.query_params
        found = await run_in_threadpool(
            operator.chunks, int(text), asked.get("tenant"), asked.get("adapter", "")
        )
        return reply({"chunks": found})

    async def stats(_: Request) -> Response:
        def look() -> dict[str, object]:
            shares = operator.shares()
            return {**asdict(operator.stats()), **operator.layout(), "shares": shares}

        return reply(await run_in_threadpool(look))

    async def health(_: Request) -> Response:
        return reply({"tiers": operator.health()})

    return Starlette(
        routes=[
            Route("/command", guarded(command), methods=["POST"]),
            Route("/chunks", guarded(chunks)),
            Route("/stats", guarded(stats)),
            Route("/health", guarded(health)),
        ]
    )


class ControlServer:
    """Serves from `start` to `close`. `address` is `unix:///path` or `http://host:port`."""

    def __init__(self, operator: Operator, address: str) -> None:
        """Raises ValueError for an address that it may not listen on, OSError for one that it cannot."""
        parts = urlsplit(address)
        token = os.environ.get(TOKEN_VARIABLE) or None
        self._path: Path | None = None
        if parts.scheme == "unix" and parts.path:
            self._path = Path(parts.path)
            self._path.unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            # Nobody but this user, whatever the umask says, from the very first moment.
            mask = os.umask(0o177)
            try:
                self._socket.bind(str(self._path))
            finally:
                os.umask(mask)
        elif parts.scheme == "http" and parts.hostname and parts.port:
            if token is None:
                raise ValueError(f"the KV layer's control API on {address} needs {TOKEN_VARIABLE} to be set")
            self._socket = socket.create_server((parts.hostname, parts.port))
        else:
            raise ValueError(f"control is unix:///path or http://host:port, not {address!r}")
        config = uvicorn.Config(
            application(operator, token),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._run, name="sluice-kv-control", daemon=True)

    def start(self) -> None:
        self._socket.listen(16)
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:
            # The engine goes on without its control API.
            logger.exception("sluice-kv: the control API stopped")


def control_server(operator: Operator, address: str | None) -> ControlServer | None:
    """A started server, or None where none is wanted or none can be had, which the log then says."""
    if address is None:
        return None
    try:
        server = ControlServer(operator, address)
    except (ValueError, OSError) as error:
        logger.warning("sluice-kv: no control API: %s", error)
        return None
    server.start()
    return server
