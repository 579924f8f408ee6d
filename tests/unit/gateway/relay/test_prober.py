from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from engine_adapter.api import WorkerInfo, write_fleet
from gateway.relay.breaker import Breakers
from gateway.relay.membership import Membership
from gateway.relay.prober import Prober, cache_tokens
from gateway.relay.settings import HealthChecks
from gateway.relay.worker_health import FAST_FOR, FAST_INTERVAL, ServedModel, WorkerHealth
from gateway.routing.fleet import Fleet, Worker

SETTINGS = HealthChecks(interval=0.02, timeout=0.2, failures_to_unready=2)


@dataclass
class Engine:
    """The two routes that a prober asks for, switchable while it runs."""

    status: int = 200
    models: Any = field(default_factory=lambda: [{"id": "small", "max_model_len": 512, "root": "/m/small"}])
    models_status: int = 200
    hang: bool = False
    garbage: bool = False
    asked: list[str] = field(default_factory=list)
    key: str = ""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode()
                self.asked.append(path)
                if self.key and f"authorization: Bearer {self.key}\r\n".encode() not in head:
                    writer.write(b"HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n")
                    continue
                if self.hang:
                    await asyncio.Event().wait()
                if self.garbage:
                    writer.write(b"220 smtp.example ready\r\n")
                    break
                status, body = self.status, b""
                if path == "/v1/models":
                    status, body = self.models_status, json.dumps({"data": self.models}).encode()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(engine: Engine, port: int = 0) -> AsyncIterator[Engine]:
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        await engine.serve(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield engine
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@dataclass
class Probed:
    fleet: Fleet
    breakers: Breakers
    membership: Membership
    prober: Prober
    fleet_file: Path

    def worker(self, worker_id: str = "w0") -> Worker:
        return self.fleet.workers[worker_id]


@asynccontextmanager
async def probing(
    folder: Path, *infos: WorkerInfo, settings: HealthChecks = SETTINGS
) -> AsyncIterator[Probed]:
    fleet = Fleet()
    file = folder / "fleet.json"
    write_fleet(file, list(infos))
    membership = Membership(fleet, folder / "overrides.json", fleet_file=file)
    breakers = Breakers(fleet, settings)
    async with Prober(membership, breakers, settings) as prober:
        yield Probed(fleet, breakers, membership, prober, file)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5.0):
        # Workers are plain records that signal nobody.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_healthy_worker_becomes_ready_and_is_asked_for_its_models_once(tmp_path: Path) -> None:
    async with running(Engine()) as engine, probing(tmp_path, WorkerInfo("w0", engine.url)) as p:
        assert p.worker().health == "unknown"
        await until(lambda: len(engine.asked) > 4)
        worker = p.worker()
        assert (worker.health, worker.message) == ("ready", "")
        assert (worker.models, worker.max_model_len) == (("small",), 512)
        assert engine.asked.count("/v1/models") == 1


async def test_a_worker_that_is_not_there(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with probing(tmp_path, WorkerInfo("w0", url)) as p:
        await until(lambda: p.worker().health == "unready")
        assert p.worker().message == f"does not answer at {url}: connection refused"


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"state": "starting"}, "loading the model (process is up)"),
        ({"state": "starting", "message": "loading weights"}, "loading weights"),
        ({"state": "backoff", "log": "w0.log"}, "its process died and will be started again; see w0.log"),
        ({"state": "failed", "message": "out of memory"}, "out of memory"),
    ],
)
async def test_the_supervisor_knows_better(tmp_path: Path, info: dict[str, Any], message: str) -> None:
    async with probing(tmp_path, WorkerInfo("w0", f"http://127.0.0.1:{free_port()}", **info)) as p:
        await until(lambda: p.worker().health == "unready")
        assert p.worker().message == message


async def test_a_death_is_believed_before_a_probe_finds_it(tmp_path: Path) -> None:
    """What still answers at the address, if anything, is not the supervisor's worker."""
    async with running(Engine()) as engine, probing(tmp_path, WorkerInfo("w0", engine.url)) as p:
        await until(lambda: p.worker().health == "ready")
        died = WorkerInfo("w0", engine.url, state="backoff", message="it was killed")
        write_fleet(p.fleet_file, [died])
        await until(lambda: p.worker().health == "unready")
        assert p.worker().message == "it was killed"
        write_fleet(p.fleet_file, [WorkerInfo("w0", engine.url, generation=1)])
        await until(lambda: p.worker().health == "ready")


async def test_the_first_round_ends_when_all_were_asked(tmp_path: Path) -> None:
    gone = WorkerInfo("w1", f"http://127.0.0.1:{free_port()}")
    async with running(Engine()) as engine, probing(tmp_path, WorkerInfo("w0", engine.url), gone) as p:
        await p.prober.first_round(within=5)
        assert (p.worker("w0").health, p.worker("w1").health) == ("ready", "unready")


async def test_the_first_round_does_not_wait_for_a_worker_that_hangs(tmp_path: Path) -> None:
    patient = HealthChecks(timeout=60)
    async with (
        running(Engine(hang=True)) as engine,
        probing(tmp_path, WorkerInfo("w0", engine.url), settings=patient) as p,
    ):
        await p.prober.first_round(within=0.05)
        assert p.worker().health == "unknown"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(status=503), "answers {url}/health with 503"),
        (Engine(hang=True), "does not answer at {url} within 0.2 s"),
        (Engine(garbage=True), "does not answer in HTTP at {url}"),
        (Engine(models_status=404), "is no OpenAI-compatible server: {url}/v1/models answers 404"),
        (Engine(models_status=401), "asks for another API key, see worker_api_key (401 at {url}/v1/models)"),
        (Engine(models=[]), "serves no model: {url}/v1/models is empty"),
        (
            Engine(models={"a": 1}),
            "is no OpenAI-compatible server: {url}/v1/models answers no list of models",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_is_said_in_words(tmp_path: Path, engine: Engine, message: str) -> None:
    async with running(engine), probing(tmp_path, WorkerInfo("w0", engine.url)) as p:
        await until(lambda: p.worker().health == "unready")
        assert p.worker().message.startswith(message.format(url=engine.url))


async def test_a_worker_that_comes_back_is_used_at_once_and_asked_again(tmp_path: Path) -> None:
    async with running(Engine()) as engine, probing(tmp_path, WorkerInfo("w0", engine.url)) as p:
        await until(lambda: p.worker().health == "ready")
        p.breakers.of(p.worker()).failed(0.0, p.breakers.of(p.worker()).sent(), refused=True)
        engine.status = 500
        await until(lambda: p.worker().health == "unready")
        assert p.worker().models == ("small",)
        engine.models = [{"id": "large"}]
        engine.status = 200
        await until(lambda: p.worker().health == "ready")
        assert p.worker().models == ("large",)
        assert p.worker().breaker == "half_open"


async def test_a_restart_is_probed_anew(tmp_path: Path) -> None:
    async with running(Engine()) as engine, probing(tmp_path, WorkerInfo("w0", engine.url)) as p:
        await until(lambda: p.worker().health == "ready")
        engine.models = [{"id": "large", "max_model_len": 9}]
        write_fleet(p.fleet_file, [WorkerInfo("w0", engine.url, generation=1)])
        await until(lambda: p.worker().models == ("large",))
        assert (p.worker().health, p.worker().max_model_len) == ("ready", 9)


async def test_a_worker_that_answers_requests_is_not_asked(tmp_path: Path) -> None:
    async with (
        running(Engine()) as busy,
        running(Engine()) as idle,
        probing(tmp_path, WorkerInfo("w0", busy.url), WorkerInfo("w1", idle.url)) as p,
    ):
        await until(lambda: p.worker("w0").health == p.worker("w1").health == "ready")
        p.worker().answered_at = time.monotonic() + 3600.0
        of_busy, of_idle = len(busy.asked), len(idle.asked)
        await until(lambda: len(idle.asked) > of_idle + 10)
        assert len(busy.asked) <= of_busy + 1, "one may have been on its way"
        assert p.worker().health == "ready"
        p.worker().answered_at = 0.0
        of_busy = len(busy.asked)
        await until(lambda: len(busy.asked) > of_busy)


async def test_workers_with_a_key_of_their_own(tmp_path: Path) -> None:
    async with running(Engine(key="sesame")) as engine:
        membership = Membership(Fleet(), tmp_path / "overrides.json", workers=[WorkerInfo("w0", engine.url)])
        async with Prober(membership, Breakers(membership.fleet, SETTINGS), SETTINGS, "sesame"):
            await until(lambda: membership.fleet.workers["w0"].health == "ready")
            assert membership.fleet.workers["w0"].models == ("small",)


async def test_a_slow_worker_delays_nobody(tmp_path: Path) -> None:
    slow_settings = HealthChecks(interval=0.02, timeout=60.0)
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(running(Engine(hang=True)))
        quick = await stack.enter_async_context(running(Engine()))
        infos = WorkerInfo("w0", slow.url), WorkerInfo("w1", quick.url)
        p = await stack.enter_async_context(probing(tmp_path, *infos, settings=slow_settings))
        await until(lambda: p.worker("w1").health == "ready")
        await until(lambda: len(quick.asked) > 5)
        assert slow.asked == ["/health"]
        assert p.worker("w0").health == "unknown"


async def test_workers_join_leave_and_drain_while_it_runs(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(running(Engine()))
        other = await stack.enter_async_context(running(Engine()))
        p = await stack.enter_async_context(probing(tmp_path, WorkerInfo("w0", engine.url)))
        await until(lambda: p.worker().health == "ready")

        p.membership.drain("w0")
        p.membership.add(WorkerInfo("w1", other.url))
        assert (p.worker().health, p.worker().accepting) == ("draining", False)
        await until(lambda: p.worker("w1").health == "ready")

        before = len(engine.asked)
        await until(lambda: len(engine.asked) > before)
        assert p.worker().health == "draining"
        Membership(Fleet(), tmp_path / "overrides.json", fleet_file=p.fleet_file).undrain("w0")
        await until(lambda: p.worker().health == "ready")

        p.membership.remove("w1")
        assert list(p.fleet.workers) == ["w0"]


async def test_different_models_under_one_name_are_warned_of_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        logs = stack.enter_context(structlog.testing.capture_logs())
        first = await stack.enter_async_context(running(Engine()))
        second = await stack.enter_async_context(
            running(Engine(models=[{"id": "small", "max_model_len": 64}]))
        )
        infos = WorkerInfo("w0", first.url), WorkerInfo("w1", second.url)
        p = await stack.enter_async_context(probing(tmp_path, *infos))
        await until(lambda: all(worker.health == "ready" for worker in p.fleet))
        second.status = 503
        await until(lambda: p.worker("w1").health == "unready")
        second.status = 200
        await until(lambda: p.worker("w1").health == "ready")
        warnings = [entry for entry in logs if "under one name" in entry["event"]]
        assert len(warnings) == 1
        assert warnings[0]["workers"]["w1"] == {"max_model_len": 64, "root": None}


async def test_closing_leaves_no_task_behind(tmp_path: Path) -> None:
    async with running(Engine()) as engine:
        before = asyncio.all_tasks()
        async with probing(tmp_path, WorkerInfo("w0", engine.url)) as p:
            await until(lambda: p.worker().health == "ready")
        left = {
            task for task in asyncio.all_tasks() - before if task.get_name().startswith(("probe", "member"))
        }
        assert left == set()


MODELS = (ServedModel("small", 512, None),)


def test_one_failure_of_a_ready_worker_is_forgiven_and_checked_soon() -> None:
    health = WorkerHealth(failures_to_unready=2)
    assert health.pause(2.0, 0.0) == FAST_INTERVAL
    assert health.succeeded(1.0)
    health.models = MODELS
    assert not health.succeeded(2.0)
    assert health.pause(2.0, 2.0) == 2.0
    assert not health.failed("reset", 1000.0)
    assert (health.up, health.pause(2.0, 1000.0)) == (True, FAST_INTERVAL)
    assert health.failed("reset", 1001.0)
    assert (health.up, health.models, health.reason) == (False, (), "reset")
    assert not health.failed("reset", 1002.0)
    assert health.succeeded(1003.0)


def test_the_first_failure_of_an_unknown_worker_is_believed() -> None:
    health = WorkerHealth(failures_to_unready=5)
    assert health.failed("refused", 1.0)
    assert health.up is False


def test_a_worker_that_stays_down_is_probed_less() -> None:
    health = WorkerHealth(failures_to_unready=1)
    health.failed("refused", 10.0)
    assert health.pause(2.0, 10.0) == FAST_INTERVAL
    assert health.pause(2.0, 10.0 + FAST_FOR) == 2.0
    assert health.pause(0.1, 10.0) == 0.1


def test_cache_size_is_read_from_vllms_metrics() -> None:
    text = (
        "# TYPE vllm:cache_config_info gauge\n"
        'vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="1200",sliding_window="None"} 1.0\n'
    )
    assert cache_tokens(text) == 38_400
    assert cache_tokens(text.replace('"1200"', '"None"')) is None
    assert cache_tokens("") is None
