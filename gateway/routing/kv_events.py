"""Follows the KV events of all workers that publish them (vLLM's `--kv-events-config`), over ZMQ.

One task per worker. A gap in the sequence numbers is filled from the worker's replay endpoint; a quiet stream
is asked now and then whether it has published something that did not arrive. Nothing here is on a request's
path, and nothing that goes wrong here is more than a source that is not counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal

import zmq
from zmq.asyncio import Context

from gateway.routing.fleet import Fleet, Worker
from gateway.routing.kv_sequence import Verdict
from gateway.routing.kv_source import EventSource, SourceReport
from gateway.routing.kv_wire import END_OF_REPLAY, KVEventError, decode_message
from gateway.routing.router import Router

log = logging.getLogger(__name__)

HIGH_WATER_MARK: Final = 100_000


@dataclass(frozen=True, slots=True)
class KVEventSettings:
    """Bounds of the event subscriptions."""

    audit_s: float = 10.0
    """A stream that was quiet for this long is asked whether something was missed."""
    replay_timeout_s: float = 5.0
    max_blocks: int = 500_000
    """Blocks followed per worker, some 200 bytes each."""

    def __post_init__(self) -> None:
        for name in ("audit_s", "replay_timeout_s", "max_blocks"):
            if not getattr(self, name) > 0:
                raise ValueError(f"routing.kv_events.{name} must be above 0, not {getattr(self, name)}")


class KVEventFollower:
    """Keeps a subscription for every member of the fleet that has an endpoint.

    `clock` must be the one that the router's `now` comes from.
    """

    def __init__(
        self,
        fleet: Fleet,
        router: Router,
        settings: KVEventSettings | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._fleet = fleet
        self._router = router
        self._settings = settings or KVEventSettings(max_blocks=router.settings.kv_max_blocks)
        self._clock = clock
        self._context: Context | None = None
        self._following: dict[str, tuple[EventSource, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        """Subscribe to the present workers, and from now on to those that join."""
        self._context = Context()
        for worker in self._fleet:
            self._on_fleet_change("joined", worker)
        self._fleet.subscribe(self._on_fleet_change)

    async def close(self) -> None:
        """End all subscriptions."""
        context, self._context = self._context, None
        tasks = [task for _, task in self._following.values()]
        self._following.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if context is not None:
            context.destroy(linger=0)

    def reports(self) -> list[SourceReport]:
        """The state of each subscription, for metrics and the admin API."""
        return [source.report() for source, _ in self._following.values()]

    def follow(self, worker: Worker) -> None:
        """(Re)subscribe to a worker whose endpoints are known by now; does nothing where it has none."""
        self._leave(worker.id)
        state = self._router.state(worker.id)
        if state is None or worker.kv_events is None or self._context is None:
            return
        source = EventSource(state, reachable(worker.kv_events, worker.host), self._settings.max_blocks)
        replay = None if worker.kv_replay is None else reachable(worker.kv_replay, worker.host)
        task = asyncio.get_running_loop().create_task(
            self._run(source, replay, self._context), name=f"kv-events-{worker.id}"
        )
        self._following[worker.id] = source, task

    def _leave(self, worker_id: str) -> None:
        source, task = self._following.pop(worker_id, (None, None))
        if task is not None and source is not None:
            task.cancel()
            source.state.confirmed = source.state.links = None

    def _on_fleet_change(self, event: Literal["joined", "left", "restarted"], worker: Worker) -> None:
        if self._context is None:
            return
        if event == "left":
            self._leave(worker.id)
        else:
            self.follow(worker)

    async def _run(self, source: EventSource, replay: str | None, context: Context) -> None:
        try:
            with context.socket(zmq.SUB) as subscription:
                subscription.set_hwm(HIGH_WATER_MARK)
                subscription.connect(source.endpoint)
                subscription.subscribe(b"")
                stream = _Stream(source, replay, context, self._settings, self._clock)
                await stream.replay()
                while True:
                    if await subscription.poll(int(self._settings.audit_s * 1000)):
                        await stream.receive(await subscription.recv_multipart())
                    else:
                        await stream.replay()
                        source.look_again(self._clock())
        except KVEventError as error:
            source.refuse(str(error))
        except zmq.ZMQError as error:
            source.refuse(f"cannot subscribe to {source.endpoint!r}, expected e.g. tcp://host:5557: {error}")
        except Exception as error:
            log.exception("KV events of worker %s", source.state.worker.id)
            source.refuse(f"internal error: {error!r}")
        log.warning("KV events of worker %s are not used: %s", source.state.worker.id, source.message)


class _Stream:
    """Receiving side of one source."""

    def __init__(
        self,
        source: EventSource,
        replay: str | None,
        context: Context,
        settings: KVEventSettings,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._replay = replay
        self._context = context
        self._settings = settings
        self._clock = clock

    async def receive(self, frames: list[bytes]) -> None:
        """A message of the subscription."""
        source = self._source
        number, payload = decode_message(frames)
        verdict = source.live(number, payload)
        if verdict is Verdict.GAP:
            await self.replay()
            verdict = source.offer(number)
            if verdict is Verdict.GAP:
                source.give_up_before(number)
                verdict = source.offer(number)
        if verdict is Verdict.APPLY:
            await self._apply(payload)
        source.caught_up()

    async def replay(self) -> None:
        """Fetch what was published and did not arrive; without a replay endpoint nothing can be."""
        if self._replay is None:
            self._source.caught_up()
            return
        with self._context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect(self._replay)
            await dealer.send_multipart([b"", self._source.sequence.expected.to_bytes(8, "big")])
            while True:
                if not await dealer.poll(int(self._settings.replay_timeout_s * 1000)):
                    self._source.message = f"the replay endpoint {self._replay} does not answer"
                    break
                number, payload = decode_message(await dealer.recv_multipart())
                if number == END_OF_REPLAY:
                    self._source.replay_answered()
                    break
                await self._replayed(number, payload)
        self._source.caught_up()

    async def _replayed(self, number: int, payload: bytes) -> None:
        source = self._source
        verdict = source.offer(number)
        if verdict is Verdict.GAP:
            source.give_up_before(number)
            verdict = source.offer(number)
        if verdict is Verdict.APPLY:
            await self._apply(payload)

    async def _apply(self, payload: bytes) -> None:
        for part in self._source.apply(payload):
            self._source.apply_slice(part, self._clock())
            await asyncio.sleep(0)


def reachable(endpoint: str, host: str) -> str:
    """The endpoint as seen from here: an engine says `tcp://*:5557` where it listens on all addresses."""
    shown = f"[{host}]" if ":" in host else host
    for wildcard in ("*", "0.0.0.0", "[::]"):
        endpoint = endpoint.replace(f"://{wildcard}:", f"://{shown}:", 1)
    return endpoint
