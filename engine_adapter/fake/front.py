"""Answers requests: the table of paths, and the way from a request to a job in the scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from engine_adapter.fake import metrics
from engine_adapter.fake.block_pool import BlockPool
from engine_adapter.fake.clockwork import Clockwork
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.faults import Fault, FaultError, FaultPlan, parse_fault, parse_header
from engine_adapter.fake.faulty import FaultyExchange, drop
from engine_adapter.fake.http import Connection, Exchange
from engine_adapter.fake.kv_events import KVEventPublisher
from engine_adapter.fake.scheduler import Job
from engine_adapter.fake.stats import Phase, Stats
from engine_adapter.fake.wire import chat, completions, messages, pooling, responses, tokenize
from engine_adapter.fake.wire.errors import ApiError, anthropic_error, http_error, malformed, openai_error
from engine_adapter.fake.wire.fields import Body
from engine_adapter.fake.wire.generation import Generation, Origin

_log = logging.getLogger(__name__)

VERSION = "0.32.0"
"""The vLLM version whose surface this is."""

Parser = Callable[[FakeEngineConfig, Body, Origin], Generation]

GENERATORS: dict[str, Parser] = {
    "/v1/chat/completions": chat.parse,
    "/v1/completions": completions.parse,
    "/v1/responses": responses.parse,
    "/v1/messages": messages.parse,
    "/v1/embeddings": pooling.parse_embeddings,
    "/pooling": pooling.parse_pooling,
    "/classify": pooling.parse_classify,
    "/score": pooling.parse_score,
    "/v1/score": pooling.parse_score,
    "/rerank": pooling.parse_rerank,
    "/v1/rerank": pooling.parse_rerank,
    "/v2/rerank": pooling.parse_rerank,
}
"""POST paths that run the model."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it arrived, kept for tests to look at."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """In order, names in the spelling they came in."""
    body: bytes

    def header(self, name: str) -> str | None:
        """The last value of a header, whatever its spelling; None if it was not sent."""
        return next((value for key, value in reversed(self.headers) if key.lower() == name.lower()), None)


class Front:
    """The handler of all connections of one engine."""

    def __init__(
        self,
        config: FakeEngineConfig,
        stats: Stats,
        clockwork: Clockwork,
        plan: FaultPlan,
        pool: BlockPool | None,
        publisher: KVEventPublisher | None,
        faults_changed: Callable[[], None],
    ) -> None:
        """`faults_changed` is called when the plan was replaced, to open or close the listener."""
        self.stats = stats
        self.connections: set[Connection] = set()
        self.recorded: deque[RecordedRequest] = deque(maxlen=config.record_requests)
        self.id_space = 0
        """Sets this engine's request ids apart from other engines'; the port, once known."""
        self._config = config
        self._clockwork = clockwork
        self._plan = plan
        self._pool = pool
        self._publisher = publisher
        self._faults_changed = faults_changed
        self._ids = itertools.count()
        self._created = int(time.time())
        self._tasks: set[asyncio.Task[None]] = set()
        self._routes: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("GET", "/health"): lambda exchange: exchange.reply(200, b""),
            ("GET", "/ping"): lambda exchange: exchange.reply(200, b""),
            ("POST", "/ping"): lambda exchange: exchange.reply(200, b""),
            ("GET", "/version"): lambda exchange: exchange.reply(200, orjson.dumps({"version": VERSION})),
            ("GET", "/load"): self._load,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("GET", "/kv_event_sources"): self._kv_event_sources,
            ("POST", "/tokenize"): self._document(tokenize.tokenize),
            ("POST", "/detokenize"): self._document(tokenize.detokenize),
            ("POST", "/v1/messages/count_tokens"): self._document(messages.count_tokens),
            ("POST", "/reset_prefix_cache"): self._reset_prefix_cache,
            ("GET", "/fake/stats"): self._report_stats,
            ("GET", "/fake/requests"): self._report_requests,
            ("GET", "/fake/faults"): self._report_faults,
            ("POST", "/fake/faults"): self._replace_faults,
            ("DELETE", "/fake/faults"): self._clear_faults,
        }
        self._paths = {path for _, path in self._routes} | GENERATORS.keys()

    # Handler

    def connected(self, connection: Connection) -> None:
        """A client connected."""
        self.stats.connections_open += 1
        self.stats.connections_seen += 1
        self.connections.add(connection)
        if not self._plan.idle and not connection.control and (fault := self._plan.choose_on_connect()):
            self._count_fault()
            drop(connection, reset=fault.reset)

    def disconnected(self, connection: Connection) -> None:
        """The connection is closed."""
        self.connections.discard(connection)
        self.stats.connections_open -= 1
        self.stats.changed()

    def left(self, exchange: Exchange) -> None:
        """The client closed before it was answered."""
        if exchange.job is not None:
            self._clockwork.abort(exchange.job)

    def readable(self, exchange: Exchange, readable: bool) -> None:
        """Stop and restart a stream with its reader, so that unread events do not pile up here."""
        if exchange.job is None or isinstance(exchange, FaultyExchange):
            return
        if readable:
            self._clockwork.resume(exchange.job)
        else:
            self._clockwork.park(exchange.job)

    def handle(self, exchange: Exchange) -> None:
        """Answer one request, or give it to the engine, which will."""
        if self.recorded.maxlen:
            self._record(exchange)
        parse = GENERATORS.get(exchange.path) if exchange.method == "POST" else None
        try:
            if parse is not None:
                self._generate(exchange, parse)
                return
            fault = self._fault(exchange, inference=False, model=None)
            if fault is not None and not exchange.path.startswith("/fake/"):
                exchange = self._spoiled(exchange, fault)
                if isinstance(exchange, FaultyExchange) and exchange.strike_first():
                    return
            route = self._routes.get((exchange.method, exchange.path))
            if route is not None:
                route(exchange)
            else:
                self._unrouted(exchange)
        except ApiError as error:
            render = anthropic_error if exchange.path.startswith("/v1/messages") else openai_error
            exchange.reply(error.status, render(error))
        except Exception as error:
            # Without this the HTTP parser, whose callback this is, would take a bug here for a bad request.
            _log.exception("%s %s", exchange.method, exchange.path)
            if exchange.started:
                exchange.connection.reset()
            else:
                internal = ApiError(str(error), status=500, kind="InternalServerError")
                exchange.reply(500, openai_error(internal))

    def close(self) -> None:
        """Drop every connection and whoever waits for statistics."""
        for task in self._tasks:
            task.cancel()
        for connection in list(self.connections):
            connection.reset()

    # The model

    def _generate(self, exchange: Exchange, parse: Parser) -> None:
        body = _json_body(exchange)
        fault = None
        if not self._plan.idle or b"x-fake-fault" in exchange.headers:
            model = body.get("model")
            fault = self._fault(exchange, inference=True, model=model if isinstance(model, str) else None)
        if fault is not None:
            exchange = self._spoiled(exchange, fault)
            if isinstance(exchange, FaultyExchange) and exchange.strike_first():
                return
        x_request_id = exchange.header(b"x-request-id")
        origin = Origin(x_request_id or f"{self.id_space:08x}{next(self._ids):024x}", int(time.time()))
        generation = parse(self._config, body, origin)
        job = Job(
            request_id=generation.request_id,
            model=generation.model,
            prompts=generation.prompts,
            sink=exchange,
            streaming=generation.streaming,
            steps=generation.steps,
            x_request_id=x_request_id,
            answers=[choices[0].tokens for choices in generation.answers],
            scope=generation.scope,
            finish_reason=generation.finish_reason,
            tokens_per_step=sum(map(len, generation.answers)),
        )
        exchange.job = job
        exchange.rendering = generation.rendering
        if isinstance(exchange, FaultyExchange):
            exchange.hold_back(job)
        if generation.streaming:
            # As vLLM does: the headers go when the request is accepted, not with the first token.
            exchange.open_stream()
            if preamble := generation.rendering.preamble():
                exchange.send(preamble)
        if job.phase is not Phase.DONE:  # a fault may have ended it already
            self._clockwork.submit(job)

    def _fault(self, exchange: Exchange, *, inference: bool, model: str | None) -> Fault | None:
        if exchange.connection.control:
            return None
        value = exchange.header(b"x-fake-fault")
        if value is not None:
            try:
                return parse_header(value)
            except FaultError as error:
                raise ApiError(str(error), param="x-fake-fault") from error
        if self._plan.idle:
            return None
        return self._plan.choose(exchange.path, inference=inference, model=model)

    def _spoiled(self, exchange: Exchange, fault: Fault) -> Exchange:
        self._count_fault()
        return FaultyExchange(exchange, fault, self._clockwork)

    def _count_fault(self) -> None:
        self.stats.faults_committed += 1
        self.stats.changed()

    # Other routes

    def _document(self, render: Callable[[FakeEngineConfig, Body], bytes]) -> Callable[[Exchange], None]:
        return lambda exchange: exchange.reply(200, render(self._config, _json_body(exchange)))

    def _unrouted(self, exchange: Exchange) -> None:
        path = exchange.path
        if path.startswith("/v1/models/") and exchange.method == "GET":
            name = unquote(path.removeprefix("/v1/models/"))
            exchange.reply(200, tokenize.model_card(self._config, name, self._created))
        elif path.startswith("/v1/responses/"):
            raise responses.not_found(path.removeprefix("/v1/responses/").removesuffix("/cancel"))
        elif path in self._paths:
            raise http_error(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            raise http_error(HTTPStatus.NOT_FOUND)

    def _load(self, exchange: Exchange) -> None:
        exchange.reply(200, orjson.dumps({"server_load": self.stats.running + self.stats.waiting}))

    def _metrics(self, exchange: Exchange) -> None:
        text = metrics.render(self._config, self.stats, self._pool)
        exchange.reply(200, text, metrics.CONTENT_TYPE)

    def _models(self, exchange: Exchange) -> None:
        exchange.reply(200, tokenize.model_list(self._config, self._created))

    def _kv_event_sources(self, exchange: Exchange) -> None:
        sources = {} if self._publisher is None else {"0": self._publisher.describe()}
        exchange.reply(200, orjson.dumps(sources))

    def _reset_prefix_cache(self, exchange: Exchange) -> None:
        success = self._pool is None or self._pool.reset()
        if success and self._config.kv_events is not None and not self._config.kv_events.lazy_clear:
            self._clockwork.scheduler.publish()
        exchange.reply(200, orjson.dumps({"success": success}))

    # Control

    def _report_stats(self, exchange: Exchange) -> None:
        """The counters; with `?aborted=N&timeout=S` once N requests were aborted, or after S seconds."""
        query = parse_qs(exchange.query)
        try:
            wanted = int(query.get("aborted", ["0"])[0])
            timeout = float(query.get("timeout", ["5"])[0])
        except ValueError:
            raise ApiError("aborted is an integer and timeout a number of seconds", param="query") from None
        if self.stats.aborted_total >= wanted:
            exchange.reply(200, orjson.dumps(self._snapshot()))
            return
        task = asyncio.get_running_loop().create_task(self._report_later(exchange, wanted, timeout))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report_later(self, exchange: Exchange, wanted: int, within: float) -> None:
        # If it times out, the figures as they stand are the answer: the asker sees that there are too few.
        with contextlib.suppress(TimeoutError):
            await self.stats.until(lambda stats: stats.aborted_total >= wanted, within)
        if not exchange.done:
            exchange.reply(200, orjson.dumps(self._snapshot()))

    def _snapshot(self) -> dict[str, Any]:
        scheduler = self._clockwork.scheduler
        report = self.stats.as_json()
        report["in_flight"] = [
            {
                "request_id": job.request_id,
                "x_request_id": job.x_request_id,
                "model": job.model,
                "phase": job.phase.value,
                "tokens": job.emitted,
            }
            for job in (*scheduler.running, *scheduler.waiting)
        ]
        if self._pool is not None:
            report["cached_blocks"] = self._pool.cached_blocks
        if self._publisher is not None:
            report["kv_batches"] = self._publisher.sequence
            report["kv_batches_lost"] = self._publisher.lost
        return report

    def _report_requests(self, exchange: Exchange) -> None:
        exchange.reply(
            200,
            orjson.dumps(
                [
                    {
                        "method": request.method,
                        "target": request.target,
                        "headers": request.headers,
                        "body": request.body.decode("utf-8", "replace"),
                    }
                    for request in self.recorded
                ]
            ),
        )

    def _report_faults(self, exchange: Exchange) -> None:
        exchange.reply(200, orjson.dumps({"faults": self._plan.describe()}))

    def _replace_faults(self, exchange: Exchange) -> None:
        body = _json_body(exchange)
        given = body.get("faults", [body] if "kind" in body else None)
        if not isinstance(given, list):
            raise ApiError('the body is a fault, or {"faults": [fault, …]}', param="faults")
        try:
            faults = [parse_fault(entry) for entry in given]
        except FaultError as error:
            raise ApiError(str(error), param="faults") from error
        self.set_faults(faults)
        self._report_faults(exchange)

    def _clear_faults(self, exchange: Exchange) -> None:
        self.set_faults([])
        self._report_faults(exchange)

    def set_faults(self, faults: list[Fault]) -> None:
        """Replace the faults in force."""
        self._plan.replace(faults)
        self._faults_changed()

    def _record(self, exchange: Exchange) -> None:
        target = f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path
        headers = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in exchange.raw_headers)
        self.recorded.append(RecordedRequest(exchange.method, target, headers, exchange.body))


def _json_body(exchange: Exchange) -> Body:
    """The body as a JSON object; raises vLLM's ApiError if it is not one."""
    media_type = exchange.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    if media_type != b"application/json":
        raise ApiError(
            "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed",
            kind=HTTPStatus.BAD_REQUEST.phrase,
        )
    try:
        body = orjson.loads(exchange.body)
    except orjson.JSONDecodeError as error:
        raise malformed("json_invalid", str(error.pos), f"JSON decode error: {error.msg}", {}) from error
    if not isinstance(body, dict):
        raise malformed(
            "model_attributes_type",
            "",
            "Input should be a valid dictionary or object to extract fields from",
            body,
        )
    return body
