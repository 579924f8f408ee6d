"""The chat page over WebRTC data channels, in a network namespace that has what browsers need for them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ANSWER_TOKENS = 240
START_SECONDS = 90.0
_URL = re.compile(r"^Sluice \S+ is at (http://\S+)$", re.MULTILINE)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """Name of a namespace with an address besides loopback and a default route, on a veth pair inside of it.

    Chromium offers addresses of the default route's interface alone, and aioice none of loopback.
    """
    pytest.importorskip("aiortc", reason="data channels need the extra `webrtc`")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    name = f"sluice-{uuid.uuid4().hex[:8]}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "exec", name, "true")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "add", "near", "type", "veth", "peer", "name", "far")
        for end, address in (("near", "10.77.0.1/24"), ("far", "10.77.0.2/24")):
            _ip("-n", name, "address", "add", address, "dev", end)
            _ip("-n", name, "link", "set", end, "up")
        _ip("-n", name, "route", "add", "default", "dev", "near")
        yield name
    finally:
        _ip("netns", "delete", name)


@pytest.fixture(scope="module")
def gateway_in_namespace(
    built_page: Path, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL, inside the namespace, of a gateway before one fake engine that takes its time.

    `built_page` comes first: the gateway looks for the page at its start.
    """
    state = tmp_path_factory.mktemp("eloquent")
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "gateway", "serve", "--engine", "fake"]
    command += ["--port", "0", "--state-dir", str(state)]
    command += ["--", f"--answer-tokens={ANSWER_TOKENS}", "--itl=0.04"]
    log = state / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            said = log.read_text(errors="replace")
            if "is ready" in said and (found := _URL.search(said)):
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"the gateway did not start:\n{log.read_text(errors='replace')}")
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _run(namespace: str, url: str, script: str, shots: Path, *node_options: str) -> None:
    """Every step of `script` passes."""
    environment = os.environ | {
        "BASE_URL": url,
        "ANSWER_TOKENS": str(ANSWER_TOKENS),
        "SCREENSHOT_DIR": os.environ.get("SCREENSHOT_DIR", str(shots)),
    }
    command = ["ip", "netns", "exec", namespace, "node", *node_options]
    command += ["--test", "--test-reporter=tap", str(HERE / script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), f"no step ran:\n{done.stdout}"


# Real time in a real browser: a machine that is busy for a second makes an answer change its path.
@pytest.mark.flaky(reruns=2, reruns_delay=2)
def test_eloquent_page(namespace: str, gateway_in_namespace: str, tmp_path: Path) -> None:
    _run(namespace, gateway_in_namespace, "eloquent.test.mjs", tmp_path)


@pytest.mark.flaky(reruns=2, reruns_delay=2)
def test_eloquent_page_in_firefox(namespace: str, gateway_in_namespace: str, tmp_path: Path) -> None:
    if shutil.which(os.environ.get("FIREFOX", "/usr/bin/firefox-esr")) is None:
        pytest.skip("Firefox is not installed; FIREFOX names another path")
    asked = ["node", "--print", "typeof WebSocket"]
    knows = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    options = [] if knows == "function" else ["--experimental-websocket"]
    _run(namespace, gateway_in_namespace, "firefox.test.mjs", tmp_path, *options)
