"""curl, and the line that `sluice serve` prints for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")

JSON = ("-H", "Content-Type: application/json")


def _curl(*arguments: str) -> str:
    command = ["curl", "-sS", "--max-time", "300", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=310)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _chat(model: str, **fields: Any) -> str:
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "It's me."}], "max_tokens": 4, **fields}
    )


def test_the_printed_line_works_when_pasted(sluice: Any) -> None:
    line = re.search(r"^ +(curl \S+/v1/chat/completions .*)$", sluice.output, re.MULTILINE)
    assert line is not None, sluice.output
    done = subprocess.run(["bash", "-c", line[1]], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_chat(sluice: Any, model: str, version: str, stream: bool) -> None:
    url = f"{sluice.url}/v1/chat/completions"
    printed = _curl("-N", version, url, *JSON, "-d", _chat(model, stream=stream), "-w", "\n%{http_code}")
    body, _, status = printed.rpartition("\n")
    assert status == "200"
    if not stream:
        assert json.loads(body)["object"] == "chat.completion"
        return
    events = body.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert len(events) > 2
    for event in events[:-1]:
        assert json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk"


def test_a_long_body_waits_for_the_go_ahead(sluice: Any, model: str) -> None:
    """curl sends `Expect: 100-continue` with bodies over 1 MiB; the engine then says that it is too long."""
    words = "river " * 200_000
    body = _chat(model, messages=[{"role": "user", "content": words}])
    url = f"{sluice.url}/v1/chat/completions"
    command = ["curl", "-sS", "-i", "--http1.1", url, *JSON, "-d", "@-"]
    done = subprocess.run(command, input=body, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HTTP/1.1 100 Continue")
    assert "HTTP/1.1 400 Bad Request" in done.stdout
    error = json.loads(done.stdout.rpartition("\n\n")[2])["error"]
    assert "maximum context length" in error["message"]


def test_an_upload_in_chunks(sluice: Any, model: str) -> None:
    url = f"{sluice.url}/v1/chat/completions"
    printed = _curl(url, *JSON, "-H", "Transfer-Encoding: chunked", "-d", _chat(model))
    assert json.loads(printed)["usage"]["completion_tokens"] > 0


def test_health_models_and_metrics(sluice: Any, model: str) -> None:
    assert json.loads(_curl(f"{sluice.url}/health"))["status"] == "ok"
    assert model in _curl(f"{sluice.url}/v1/models")
    assert "sluice_requests_total" in _curl(f"{sluice.url}/metrics")
    assert _curl("-I", f"{sluice.url}/health").startswith("HTTP/1.1 200")
