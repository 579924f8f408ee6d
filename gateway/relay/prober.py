"""Finds out which workers can serve: asks each of them for `/health`, and for `/v1/models` when it is new.

A worker that is up and has begun an answer since it was last looked at is not asked: a busy fleet costs no
probes. Every worker has a task of its own, so that a slow one delays nobody. What a probe means is decided
in `worker_health`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import httpx
import orjson
import structlog

from gateway.relay.breaker import Breakers
from gateway.relay.membership import Membership
from gateway.relay.settings import HealthChecks
from gateway.relay.worker_health import DOWN, ServedModel, WorkerHealth, explain, supervisors_word
from gateway.routing.fleet import Worker

log = structlog.get_logger(__name__)

_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

WATCH_INTERVAL = 0.2
"""Seconds between two looks at the files and the breakers' clocks."""


class NotAnEngineError(Exception):
    """It answers, but not as an OpenAI-compatible server does."""


@dataclass(slots=True, eq=False)
class _Watch:
    health: WorkerHealth
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    probed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the worker was asked for the first time."""
    task: asyncio.Task[None] | None = None


class Prober:
    """Keeps `health`, `message`, `models` and `max_model_len` of a fleet's workers true, until closed.

    Also the timer of the membership's files and of the breakers. Use it as an async context manager.
    """

    def __init__(
        self,
        membership: Membership,
        breakers: Breakers,
        settings: HealthChecks,
        worker_api_key: str = "",
        on_cache_size: Callable[[str, int], None] | None = None,
    ) -> None:
        """`on_cache_size` is told a worker's id and how many tokens its KV cache holds, where it says so."""
        self._membership = membership
        self._fleet = membership.fleet
        self._breakers = breakers
        self._settings = settings
        self._on_cache_size = on_cache_size
        self._headers = {"user-agent": "sluice-prober"}
        if worker_api_key:
            self._headers["authorization"] = f"Bearer {worker_api_key}"
        self._watches: dict[str, _Watch] = {}
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._timer: asyncio.Task[None] | None = None
        self._warned: set[tuple[str, ServedModel, ServedModel]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._fleet.subscribe(self._fleet_changed)
        membership.subscribe(self._show_all)

    async def __aenter__(self) -> Self:
        # Without its own verify, httpx reads a CA bundle in the constructor, which blocks for long.
        self._clients[False] = self._client(verify=False)
        for worker in self._fleet:
            self._begin(worker)
        self._timer = asyncio.create_task(self._watch_files(), name="membership")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        if self._timer is not None:
            tasks.append(self._timer)
            self._timer = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._closing, return_exceptions=True)
        self._watches.clear()
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def first_round(self, within: float) -> None:
        """Return when every worker was asked once, after `within` seconds at the latest.

        A process that begins to serve beside others then knows where it can send requests.
        """
        waiting = [watch.probed.wait() for watch in self._watches.values()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await asyncio.gather(*waiting)

    def _show_all(self) -> None:
        for worker in self._fleet:
            self._show(worker)

    def _show(self, worker: Worker) -> None:
        """Write what is known into the worker's record."""
        watch = self._watches.get(worker.id)
        if watch is None:
            return
        health = watch.health
        if health.up:
            worker.models = tuple(model.name for model in health.models)
            worker.max_model_len = health.models[0].max_model_len
        info = self._membership.infos.get(worker.id)
        if self._membership.is_draining(worker.id):
            worker.health = "draining"
            worker.message = "draining: takes no new requests" + (
                f"; {health.reason}" if health.reason else ""
            )
        elif info is not None and info.state in DOWN:
            worker.health, worker.message = "unready", supervisors_word(info)
        else:
            worker.health = "unknown" if health.up is None else "ready" if health.up else "unready"
            worker.message = health.reason

    async def _watch_files(self) -> None:
        while True:
            try:
                self._membership.refresh()
                self._breakers.tick(time.monotonic())
            except Exception:
                # A listener of the fleet broke; without this timer no change would be seen ever again.
                log.exception("workers could not be brought up to date")
            await asyncio.sleep(WATCH_INTERVAL)

    def _fleet_changed(self, event: Literal["joined", "left", "restarted"], worker: Worker) -> None:
        if self._timer is None:
            return
        if event == "left":
            watch = self._watches.pop(worker.id)
            if watch.task is not None:
                watch.task.cancel()
                self._closing.add(watch.task)
                watch.task.add_done_callback(self._closing.discard)
        elif event == "joined":
            self._begin(worker)
        else:
            watch = self._watches[worker.id]
            watch.health.restarted(time.monotonic())
            self._show(worker)
            watch.wake.set()

    def _begin(self, worker: Worker) -> None:
        health = WorkerHealth(self._settings.failures_to_unready, changed=time.monotonic())
        watch = self._watches[worker.id] = _Watch(health)
        self._show(worker)
        watch.task = asyncio.create_task(self._watch(worker, watch), name=f"probe {worker.id}")

    async def _watch(self, worker: Worker, watch: _Watch) -> None:
        asked = 0.0
        while True:
            health = watch.health
            answers = health.up and worker.answered_at > asked and not watch.wake.is_set()
            asked = time.monotonic()
            watch.wake.clear()
            generation = worker.generation
            reason, models = ("", health.models) if answers else await self._probe(worker, health)
            if worker.generation == generation:
                self._judge(worker, health, reason, models)
            watch.probed.set()
            pause = watch.health.pause(self._settings.interval, time.monotonic())
            try:
                async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):
                    await watch.wake.wait()
            except TimeoutError:
                pass

    def _judge(
        self, worker: Worker, health: WorkerHealth, reason: str, models: tuple[ServedModel, ...]
    ) -> None:
        now = time.monotonic()
        known = health.models
        if reason:
            if health.failed(reason, now):
                log.warning("worker is not ready", worker=worker.id, reason=reason)
        else:
            health.models = models
            if health.succeeded(now):
                self._breakers.of(worker).recovered()
                log.info("worker is ready", worker=worker.id, url=worker.url, models=[m.name for m in models])
        self._show(worker)
        if health.models != known:
            self._compare(worker, health)

    async def _probe(self, worker: Worker, health: WorkerHealth) -> tuple[str, tuple[ServedModel, ...]]:
        """Why it cannot serve, or an empty reason and what it serves."""
        try:
            client = await self._client_of(worker)
            answer = await self._get(client, worker, "/health")
            if answer.status_code != 200:
                return f"answers {worker.url}/health with {answer.status_code}", ()
            if health.models:
                return "", health.models
            return "", await self._introduce(client, worker)
        except NotAnEngineError as error:
            return str(error), ()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return explain(error, worker, self._membership.infos.get(worker.id), self._settings.timeout), ()
        except Exception as error:
            log.exception("probe broke", worker=worker.id)
            return f"cannot be probed: {error!r}", ()

    async def _introduce(self, client: httpx.AsyncClient, worker: Worker) -> tuple[ServedModel, ...]:
        """What a worker that has just come up serves, and how large its cache is."""
        models = _served(await self._get(client, worker, "/v1/models"), worker)
        if self._on_cache_size is not None:
            tokens = cache_tokens((await self._get(client, worker, "/metrics")).text)
            if tokens is not None:
                self._on_cache_size(worker.id, tokens)
        return models

    @staticmethod
    async def _get(client: httpx.AsyncClient, worker: Worker, path: str) -> httpx.Response:
        if worker.server_name is None:
            return await client.get(worker.url + path)
        name = {"sni_hostname": worker.server_name}
        return await client.get(
            worker.url + path, headers={"host": worker.authority.decode()}, extensions=name
        )

    async def _client_of(self, worker: Worker) -> httpx.AsyncClient:
        if worker.tls not in self._clients:
            context = await asyncio.to_thread(ssl.create_default_context)
            self._clients.setdefault(worker.tls, self._client(verify=context))
        return self._clients[worker.tls]

    def _client(self, verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
        # Each worker has at most one probe on its way, so the pool needs no limit; proxies of the
        # environment are for the outside world, not for workers.
        return httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            timeout=self._settings.timeout or None,
            limits=httpx.Limits(keepalive_expiry=4.0),
            headers=self._headers,
        )

    def _compare(self, worker: Worker, health: WorkerHealth) -> None:
        """Warn, once each, of workers that serve different things under one name."""
        for other_id, other in self._watches.items():
            if other_id == worker.id:
                continue
            theirs = {model.name: model for model in other.health.models}
            for model in health.models:
                twin = theirs.get(model.name, model)
                first, second = sorted((model, twin), key=repr)
                if twin != model and (model.name, first, second) not in self._warned:
                    self._warned.add((model.name, first, second))
                    log.warning(
                        "two workers serve different models under one name; requests may go to either",
                        model=model.name,
                        workers={
                            worker.id: {"max_model_len": model.max_model_len, "root": model.root},
                            other_id: {"max_model_len": twin.max_model_len, "root": twin.root},
                        },
                    )


def cache_tokens(metrics: str) -> int | None:
    """Tokens that the KV cache holds, from vLLM's own metrics; None where they do not tell."""
    info = _CACHE_CONFIG.search(metrics)
    if info is None:
        return None
    labels = dict(_LABEL.findall(info[1]))
    blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    return int(blocks) * int(size) if blocks.isdigit() and size.isdigit() else None


def _served(answer: httpx.Response, worker: Worker) -> tuple[ServedModel, ...]:
    url = f"{worker.url}/v1/models"
    if answer.status_code in (401, 403):
        raise NotAnEngineError(
            f"asks for another API key, see worker_api_key ({answer.status_code} at {url})"
        )
    if answer.status_code != 200:
        raise NotAnEngineError(f"is no OpenAI-compatible server: {url} answers {answer.status_code}")
    try:
        entries: list[dict[str, Any]] = orjson.loads(answer.content)["data"]
        models = tuple(ServedModel(e["id"], e.get("max_model_len"), e.get("root")) for e in entries)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAnEngineError(f"is no OpenAI-compatible server: {url} answers no list of models") from error
    if not models:
        raise NotAnEngineError(f"serves no model: {url} is empty")
    return models
