"""Whole gateways as processes, started by the command that users type, and clients that users have.

`sluice` is one gateway before one worker, once with the fake engine and once with vLLM; each is started once
for all tests. `start_sluice` starts others. SLUICE_E2E_MODEL names another model than the shipped one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
STARTED_BY = "SLUICE_E2E_RUN"
"""Environment variable that marks every process of one gateway, however it was started."""
VLLM_START_SECONDS = 240.0
FAKE_START_SECONDS = 60.0
STOP_SECONDS = 60.0
ALIAS = "gpt-alias"
LAST = ("test_worker_death", "test_shutdown")
"""Modules that break or end the shared gateways."""

_URL = re.compile(r"^Sluice \S+ is at (http://\S+)$", re.MULTILINE)
_LOG_LINES = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what ends the shared gateways after everything that uses them."""

    def rank(item: pytest.Item) -> int:
        return LAST.index(item.path.stem) + 1 if item.path.stem in LAST else 0

    items.sort(key=rank)


@dataclass(frozen=True)
class ProcessEntry:
    """A live process, from /proc."""

    parent: int
    started: str
    """In clock ticks since boot: tells a process from a later one with the same pid."""
    command: str


def _process_table() -> dict[int, ProcessEntry]:
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
                if state != "Z":
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    command = words.decode(errors="replace").strip()
                    table[int(entry.name)] = ProcessEntry(int(parent), rest[17], command)
    return table


def _is_marked(pid: int, mark: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{STARTED_BY}={mark}".encode() in environment.split(b"\0")


@dataclass
class Sluice:
    """A running `sluice serve`."""

    engine: str
    process: subprocess.Popen[bytes]
    state_dir: Path
    mark: str
    url: str = ""
    first_health: dict[str, Any] = field(default_factory=dict)
    """What `/health` said as soon as the gateway listened."""
    stopped: bool = False
    seen: set[tuple[int, str]] = field(default_factory=set)
    """Pids of its tree and when each began."""

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self.state_dir / "serve.log").read_text(errors="replace")

    def report(self) -> str:
        """Its output and the ends of its workers' logs, for a failing test."""
        parts = [f"--- sluice serve\n{self.output}"]
        for log in sorted((self.state_dir / "logs").glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            parts.append(f"--- {log.name}, last {len(lines)} lines\n" + "\n".join(lines))
        return "\n".join(parts)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET from the gateway on a connection of its own."""
        return httpx.get(self.url + path, timeout=60, verify=False, **options)

    def post(self, path: str, body: dict[str, Any], **options: Any) -> httpx.Response:
        """POST JSON to the gateway on a connection of its own."""
        return httpx.post(self.url + path, json=body, timeout=300, verify=False, **options)

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.get("/health").json()
        return answer

    def worker_urls(self) -> list[str]:
        return [worker["url"] for worker in self.health()["workers"]]

    def model(self) -> str:
        """The name of the model it serves."""
        name: str = self.get("/v1/models").json()["data"][0]["id"]
        return name

    def processes(self) -> dict[int, str]:
        """Its live processes, the whole tree: command lines by pid."""
        table = _process_table()
        tree = {self.process.pid}
        # Parents come before their children often enough, but not always.
        while grown := {pid for pid, entry in table.items() if entry.parent in tree and pid not in tree}:
            tree |= grown
        tree |= {pid for pid in table if _is_marked(pid, self.mark)}
        found = {pid: table[pid] for pid in tree & table.keys()}
        self.seen |= {(pid, entry.started) for pid, entry in found.items()}
        return {pid: entry.command for pid, entry in found.items()}

    def left_behind(self) -> dict[int, str]:
        """Processes that were ever seen in its tree and live."""
        self.processes()
        table = _process_table()
        return {
            pid: table[pid].command
            for pid, started in self.seen
            if pid in table and table[pid].started == started
        }

    def worker_pids(self) -> list[int]:
        """The server processes of its workers."""
        module = "engine_adapter.fake" if self.engine == "fake" else "engine_adapter.vllm.server"
        return [pid for pid, command in self.processes().items() if f"-m {module}" in command]

    def gateway_pids(self) -> list[int]:
        """The processes that answer requests."""
        return [
            pid
            for pid, command in self.processes().items()
            if "-m gateway serve" in command and pid != self.process.pid
        ]

    def terminate(self) -> None:
        """Ask it to end, as Ctrl-C and service managers do."""
        self.processes()
        self.process.send_signal(signal.SIGTERM)

    def wait_stopped(self) -> int:
        """Its exit status; nothing of it may be left behind."""
        self.stopped = True
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            pytest.fail(f"it did not end within {STOP_SECONDS:.0f} s of SIGTERM\n{self.report()}")
        if orphans := self.left_behind():
            self._kill()
            pytest.fail(f"processes stayed behind: {orphans}\n{self.report()}")
        return status

    def stop(self) -> None:
        """End it, unless a test has done so; it must end well."""
        if self.stopped:
            return
        self.terminate()
        status = self.wait_stopped()
        assert status == 0, f"it ended with status {status}\n{self.report()}"

    def _kill(self) -> None:
        for pid in self.left_behind():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def until(self, happened: Callable[[], Any], what: str, within: float = 30.0) -> Any:
        """Ask until `happened` returns something true, and return that; fails after `within` seconds."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if result := happened():
                return result
            if self.process.poll() is not None:
                pytest.fail(f"sluice ended with {self.process.returncode} before {what}\n{self.report()}")
            time.sleep(0.05)
        pytest.fail(f"not within {within:.0f} s: {what}\n{self.report()}")

    def until_ready(self, within: float) -> None:
        self.until(lambda: self.get("/ready").status_code == 200, "the gateway was ready", within)


StartSluice = Callable[..., Sluice]


def _start(state_dir: Path, engine: str, flags: tuple[str, ...], environment: dict[str, str]) -> Sluice:
    """Start `sluice serve` on a free port; it listens when this returns, its workers may still load."""
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "gateway", "serve", "--engine", engine, "--port", "0"]
    command += ["--state-dir", str(state_dir), *flags]
    with (state_dir / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment | {STARTED_BY: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    sluice = Sluice(engine, process, state_dir, mark)
    sluice.url = sluice.until(lambda: _URL.search(sluice.output), "it named its URL")[1]

    def health() -> dict[str, Any] | None:
        with contextlib.suppress(httpx.TransportError):
            return sluice.health()
        return None

    sluice.first_health = sluice.until(health, "the gateway answered")
    return sluice


@pytest.fixture(scope="session")
def start_sluice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSluice]:
    """`start_sluice(*flags, engine="fake", env=None, ready=True)`; what still runs at the end is ended."""
    with contextlib.ExitStack() as stack:

        def start(
            *flags: str, engine: str = "fake", env: dict[str, str] | None = None, ready: bool = True
        ) -> Sluice:
            sluice = _start(tmp_path_factory.mktemp("sluice"), engine, flags, env or {})
            stack.callback(sluice.stop)
            if ready:
                sluice.until_ready(FAKE_START_SECONDS if engine == "fake" else VLLM_START_SECONDS)
            return sluice

        yield start


@pytest.fixture(scope="session")
def fake_sluice(start_sluice: StartSluice) -> Sluice:
    """One gateway before one fake engine, which keeps its latest requests."""
    return start_sluice(
        "--alias", f"{ALIAS}=fake", "--", "--answer-tokens=24", "--itl=0.001", "--record-requests=4"
    )


@pytest.fixture(scope="session")
def vllm_sluice(start_sluice: StartSluice) -> Sluice:
    """One gateway before one real vLLM worker with the shipped model."""
    model = os.environ.get("SLUICE_E2E_MODEL")
    name = Path(model).name if model else "sluice-base"
    return start_sluice(
        *(("--model", model) if model else ()),
        *("--served-name", name, "--alias", f"{ALIAS}={name}"),
        engine="vllm",
    )


@pytest.fixture(scope="session")
def gateway_url(vllm_sluice: Sluice) -> str:
    """URL of the gateway before vLLM."""
    return vllm_sluice.url


@pytest.fixture(scope="session", params=["fake", pytest.param("vllm", marks=pytest.mark.vllm)])
def sluice(request: pytest.FixtureRequest) -> Sluice:
    """The gateway, with each engine."""
    found: Sluice = request.getfixturevalue(f"{request.param}_sluice")
    return found


@pytest.fixture(scope="session")
def no_blanks(sluice: Sluice) -> dict[str, int]:
    """A `logit_bias` against white space, on which a tiny model can spend a whole answer in JSON."""
    model = sluice.model()
    tokens: set[int] = set()
    for blank in (" ", "\n", "\t", "  ", "\n\n", " \n"):
        body = {"model": model, "prompt": blank, "add_special_tokens": False}
        tokens.update(httpx.post(f"{sluice.url}/tokenize", json=body).json()["tokens"])
    return {str(token): -100 for token in tokens}


@pytest.fixture(scope="session")
def model(sluice: Sluice) -> str:
    """The name of the model that `sluice` serves."""
    return sluice.model()


@pytest.fixture(scope="session")
def alias() -> str:
    """Another name of the model that `sluice` serves."""
    return ALIAS


@pytest.fixture(scope="session")
def client(sluice: Sluice) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, as its documentation sets it up, but without retries that would hide failures."""
    with openai.OpenAI(
        base_url=f"{sluice.url}/v1", api_key="unused", max_retries=0, timeout=300
    ) as openai_client:
        yield openai_client


@pytest.fixture(scope="session")
def anthropic_client(sluice: Sluice) -> Iterator[anthropic.Anthropic]:
    """Anthropic's own client."""
    with anthropic.Anthropic(
        base_url=sluice.url, api_key="unused", max_retries=0, timeout=300
    ) as anthropic_client:
        yield anthropic_client


def samples(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry `labels`; `name` as exposed, with `_total` for counters."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture(scope="session")
def metric() -> Callable[..., float]:
    """`metric(url, name, **labels)`: scrape `url`/metrics and add up one metric."""

    def scrape(url: str, name: str, **labels: str) -> float:
        answer = httpx.get(f"{url}/metrics", timeout=60, verify=False)
        return samples(answer.raise_for_status().text, name, **labels)

    return scrape
