"""How the control plane reaches the KV layer beside each worker: its control API, over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import orjson

from cache.control import LONGEST_SECONDS, Command
from gateway.api.context import GatewayContext
from gateway.errors import InvalidRequest, NotFound, UpstreamFailed
from gateway.routing.fleet import Worker

TOKEN_VARIABLE = "SLUICE_KV_TOKEN"
_SECONDS = 5.0
_TOKENIZE_SECONDS = 30.0

Answer = dict[str, Any]


class KvLayer:
    """The control APIs of all workers that have one."""

    def __init__(self, context: GatewayContext) -> None:
        self._membership = context.membership
        self._worker_key = context.relay.worker_api_key

    def workers(self, wanted: str | None = None) -> list[Worker]:
        """Those with a KV layer that can be asked, or the one named. Raises NotFound."""
        fleet = self._membership.fleet
        if wanted is None:
            return [worker for worker in fleet if self._address(worker) is not None]
        worker = fleet.workers.get(wanted)
        if worker is None:
            raise NotFound(f"There is no worker {wanted!r}; GET /admin/workers lists them.", param="worker")
        if self._address(worker) is None:
            raise InvalidRequest(
                f"Worker {wanted!r} has no KV layer that can be asked: it was started without one, or"
                " elsewhere without `control` in its kv_connector_extra_config and `kv_control` in the"
                " fleet file.",
                param="worker",
            )
        return [worker]

    async def ask_all(self, path: str, wanted: str | None = None) -> dict[str, Answer]:
        """GET `path` from each worker; one that does not answer has an `error` instead."""
        return await self._each(wanted, lambda worker: self._call(worker, "GET", path))

    async def command_all(self, command: Command, wanted: str | None = None) -> dict[str, Answer]:
        """Give a command to each worker; refusals and failures are told per worker as `error`."""
        body = msgspec.json.encode(command)
        return await self._each(wanted, lambda worker: self._call(worker, "POST", "/command", body))

    async def tokenize(self, worker: Worker, body: Mapping[str, Any]) -> list[int]:
        """The token ids of a prompt or of messages, from the worker's own tokenizer. Raises GatewayErrors."""
        headers = {"authorization": f"Bearer {self._worker_key}"} if self._worker_key else {}
        model = worker.models[0] if worker.models else None
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=_TOKENIZE_SECONDS) as client:
                answer = await client.post(
                    f"{worker.url}/tokenize", json={"model": model, **body}, headers=headers
                )
        except httpx.HTTPError as error:
            raise UpstreamFailed(f"Worker {worker.id} did not tokenize the prompt: {error}") from error
        if answer.status_code != 200:
            raise InvalidRequest(f"Worker {worker.id} refused the prompt: {answer.text[:500]}")
        tokens = orjson.loads(answer.content).get("tokens")
        if not isinstance(tokens, list):
            raise UpstreamFailed(f"Worker {worker.id} answered /tokenize without tokens.")
        return tokens

    async def _each(
        self, wanted: str | None, ask: Callable[[Worker], Awaitable[Answer]]
    ) -> dict[str, Answer]:
        workers = self.workers(wanted)
        answers = await asyncio.gather(*(ask(worker) for worker in workers))
        return {worker.id: answer for worker, answer in zip(workers, answers, strict=True)}

    def _address(self, worker: Worker) -> str | None:
        info = self._membership.infos.get(worker.id)
        return info.kv_control if info is not None else None

    async def _call(self, worker: Worker, method: str, path: str, body: bytes | None = None) -> Answer:
        address = self._address(worker) or ""
        parts = urlsplit(address)
        unix = parts.scheme == "unix"
        transport = httpx.AsyncHTTPTransport(uds=parts.path) if unix else None
        token = os.environ.get(TOKEN_VARIABLE)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(_SECONDS, read=LONGEST_SECONDS + _SECONDS if body else _SECONDS)
        try:
            async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout) as client:
                url = f"{'http://worker' if unix else address.rstrip('/')}{path}"
                answer = await client.request(method, url, content=body, headers=headers)
            found: Answer = orjson.loads(answer.content)
        except (httpx.HTTPError, OSError, ValueError) as error:
            return {"error": f"the KV layer of {worker.id} does not answer: {error or type(error).__name__}"}
        return found
