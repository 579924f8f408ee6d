"""What is asked of a stack that came up. Each function is one check: it returns what it found, or raises."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from stack import REPOSITORY, Stack

GATEWAY = "http://127.0.0.1:8080"
PROMETHEUS = "http://127.0.0.1:9090"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "dashboards" / "sluice.json"
KEY_FILE = "/var/lib/sluice/keys.json"
BLOCK_TOKENS = 32
"""Of `engine.block_size`."""
MAY_BE_EMPTY = {"Queue wait"}
"""Panels of the dashboard that have nothing to show where no request had to wait."""
KV_LAYER = {"Prompt tokens by source", "Tier traffic", "Kept KV", "Trouble in the KV layer"}
"""Panels for workers with a KV layer, which the fake engine has not."""
NOUNS = ("boss", "town", "job", "food", "day", "pet", "car", "color")


def ask(url: str, body: dict[str, Any] | None = None, key: str | None = None) -> Any:
    """JSON from a URL; HTTPError for a status of 400 or more."""
    return json.loads(fetch(url, body, key))


def fetch(url: str, body: dict[str, Any] | None = None, key: str | None = None) -> str:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=120) as answer:
        text: str = answer.read().decode()
        return text


def eventually(probe: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `probe`, asked twice a second. Raises its last error, or TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        error: Exception | None = None
        try:
            if value := probe():
                return value
        except (OSError, LookupError) as caught:
            error = caught
        if time.monotonic() > deadline:
            raise error or TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.5)


def chat(messages: str, **fields: Any) -> dict[str, Any]:
    model = ask(f"{GATEWAY}/v1/models")["data"][0]["id"]
    return {"model": model, "messages": [{"role": "user", "content": messages}], "max_tokens": 48} | fields


def health(stack: Stack) -> str:
    """The gateway answers through its published port while its worker still loads."""
    return fetch(f"{GATEWAY}/health") if eventually(lambda: fetch(f"{GATEWAY}/health"), 60) else ""


def page(stack: Stack) -> str:
    """The page was built in its own stage and is served from the package."""
    html = fetch(f"{GATEWAY}/")
    script = re.search(r'src="(/assets/[^"]+\.js)"', html)
    assert script is not None, f"no script in the page: {html[:200]}"
    return f"{script[1]}, {len(fetch(GATEWAY + script[1]))} characters"


def ready(stack: Stack) -> str:
    """A worker has loaded its model."""
    eventually(lambda: fetch(f"{GATEWAY}/ready"), 600)
    return fetch(f"{GATEWAY}/health")


def answer(stack: Stack) -> str:
    """A chat, whole."""
    reply = ask(f"{GATEWAY}/v1/chat/completions", chat("What is the capital of France?", temperature=0))
    text = reply["choices"][0]["message"]["content"]
    assert text, f"empty answer: {reply}"
    return f"{reply['model']}: {text!r}, usage {reply['usage']}"


def stream(stack: Stack) -> str:
    """The same as a stream, several times, so that there is something to measure."""
    events = 0
    for number in range(8):
        body = chat(f"Tell me something about the number {number}.", stream=True)
        lines = fetch(f"{GATEWAY}/v1/chat/completions", body).splitlines()
        assert lines[-2] == "data: [DONE]", f"the stream ended with {lines[-3:]}"
        events += sum(line.startswith("data: ") for line in lines)
    return f"8 streams, {events} events"


def names(stack: Stack) -> str:
    """Services find each other by name."""
    code = "import socket; print(*(n + '=' + socket.gethostbyname(n) for n in ('worker', 'prometheus')))"
    return stack.inside("gateway", "python", "-c", code)


def valkey(stack: Stack) -> str:
    """Workers reach Valkey; the gateway, which has no business there, does not."""
    code = (
        "import socket; s = socket.create_connection(('valkey', 6379), 3); s.sendall(b'PING\\r\\n'); "
        "print(s.recv(9).decode().strip())"
    )
    assert (pong := stack.inside("worker", "python", "-c", code)) == "+PONG", pong
    look = "import socket\ntry:\n socket.gethostbyname('valkey')\nexcept OSError as e:\n print('hidden')"
    assert (seen := stack.inside("gateway", "python", "-c", look)) == "hidden", (
        f"the gateway sees valkey: {seen}"
    )
    return pong


def kept(stack: Stack) -> str:
    """What a worker has computed is in Valkey for its next start: most of a prompt asked again is."""
    facts = " ".join(f"The {word} of Ada number {n} is {word}." for n in range(12) for word in NOUNS)
    body = chat(f"{facts} What is the town of Ada number 7?", temperature=0, max_tokens=4)
    first = ask(f"{GATEWAY}/v1/chat/completions", body)["usage"]
    assert first["sluice"]["kv"].get("computed", 0) > 0.9 * first["prompt_tokens"], (
        f"not a new prompt: {first}"
    )
    chunks = first["prompt_tokens"] // BLOCK_TOKENS
    eventually(lambda: int(stack.inside("valkey", "valkey-cli", "dbsize")) >= chunks, 30)

    stack.compose("restart", "worker")
    look = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/health', timeout=4).status)"

    def answers() -> bool:
        try:
            return stack.inside("worker", "python", "-c", look) == "200"
        except subprocess.CalledProcessError:
            return False

    eventually(answers, 600)
    again = eventually(lambda: ask(f"{GATEWAY}/v1/chat/completions", body), 60)["usage"]
    sources = again["sluice"]["kv"]
    assert sources.get("valkey", 0) > again["prompt_tokens"] / 2, f"not from Valkey: {again}"
    return f"before the restart {first['sluice']['kv']}, after it {sources}"


def webrtc(stack: Stack) -> str:
    """The gateway's image has what calls need: an offer is answered, and tokens take the data channel."""
    code = (
        "import asyncio\n"
        "from gateway.chat.conversation import Conversation\n"
        "async def main():\n"
        " length = {'min_tokens': 200, 'max_tokens': 200}\n"
        " async with Conversation('http://127.0.0.1:8080', None, options=length, eloquent=True) as talk:\n"
        "  for _ in range(8):\n"
        "   async for _ in talk.say('Tell me a long story.'): pass\n"
        "   print(*talk.summary.paths)\n"
        "   if 'eloquent' in talk.summary.paths: return\n"
        "   await asyncio.sleep(1)\n"
        "asyncio.run(main())"
    )
    assert stack.inside("gateway", "python", "-c", code), "no answer"
    metrics = fetch(f"{GATEWAY}/metrics")
    offers, events = (
        {label: float(value) for label, value in re.findall(rf'^{name}{{\w+="(\w+)"}} (\S+)$', metrics, re.M)}
        for name in ("sluice_realtime_offers_total", "sluice_stream_delivered_events_total")
    )
    assert offers.get("answered", 0) >= 1, f"offers: {offers}"
    assert events.get("eloquent", 0) >= 1, f"events by path: {events}"
    return f"offers {offers}, events by path {events}"


def rights(stack: Stack) -> str:
    """Neither root, nor able to write outside its volume, nor in possession of any capability."""
    code = (
        "import os, pathlib\n"
        "caps = [l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1]\n"
        "try:\n pathlib.Path('/opt/sluice/x').touch(); wrote = True\n"
        "except OSError as error:\n wrote = error.strerror\n"
        "print(f'uid={os.getuid()} capabilities={int(caps, 16)} write={wrote}')"
    )
    found = {service: stack.inside(service, "python", "-c", code) for service in ("gateway", "worker")}
    wanted = "uid=10001 capabilities=0 write=Read-only file system"
    assert set(found.values()) == {wanted}, found
    return wanted


def scraped(stack: Stack) -> str:
    """Prometheus scrapes the gateway, the worker and itself."""

    def targets() -> dict[str, str]:
        active = ask(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
        found = {t["labels"]["job"]: t["health"] for t in active}
        return found if found == dict.fromkeys(("sluice", "vllm", "prometheus"), "up") else {}

    return str(eventually(targets, 60))


def value_of(query: str) -> list[float]:
    """The values that Prometheus has for a query of the dashboard now, those that are no number left out."""
    query = query.replace("$__rate_interval", "1m").replace("$model", ".*").replace("$worker", ".*")
    reply = ask(f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    values = (float(series["value"][1]) for series in reply["data"]["result"])
    return [value for value in values if math.isfinite(value)]


def dashboard(stack: Stack) -> str:
    """Prometheus understands every query of the dashboard, and every panel has something to show."""
    for _ in range(2):
        with contextlib.suppress(urllib.error.HTTPError):
            ask(f"{GATEWAY}/v1/chat/completions", {"model": "nobody", "messages": []})
    time.sleep(12)
    full, without, empty = 0, [], []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        answers = {target["refId"]: value_of(target["expr"]) for target in panel.get("targets", ())}
        full += sum(map(bool, answers.values()))
        without += [f"{panel['title']} {name}" for name, values in answers.items() if not values]
        if answers and not any(answers.values()):
            empty.append(panel["title"])
    may_be = MAY_BE_EMPTY if value_of("count(sluice_kv_prompt_tokens_total)") else MAY_BE_EMPTY | KV_LAYER
    assert set(empty) <= may_be, f"panels without data: {empty}"
    return f"{full} queries with data; without, and none to be expected: {', '.join(without)}"


def healthy(stack: Stack) -> str:
    """The health checks of all services pass."""
    services = ("gateway", "worker", "valkey", "prometheus")

    def all_pass() -> bool:
        found = {service: stack.health(service) for service in services}
        if wrong := {service: text for service, text in found.items() if text != "healthy"}:
            raise LookupError(str(wrong))
        return True

    eventually(all_pass, 60)
    return ", ".join(services)


def keys(stack: Stack) -> str:
    """With a key file in the gateway's volume, the same stack asks for keys."""
    secret = stack.inside("gateway", "sluice", "key", "create", "trial", "--file", KEY_FILE)
    stack.set("SLUICE_ACCESS__KEY_FILE", KEY_FILE)
    stack.compose("up", "--detach", "--no-deps", "gateway")
    eventually(lambda: fetch(f"{GATEWAY}/ready"), 60)
    try:
        ask(f"{GATEWAY}/v1/models")
    except urllib.error.HTTPError as error:
        refused = error.code
    else:
        raise AssertionError("a request without a key was answered")
    models = ask(f"{GATEWAY}/v1/models", key=secret)["data"]
    assert refused == 401, refused
    assert models, "no model for a request with a key"
    body = {"model": models[0]["id"], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    reply = ask(f"{GATEWAY}/v1/chat/completions", body, key=secret)
    return f"{refused} without a key; with one {reply['choices'][0]['message']['content']!r}"


def drain(stack: Stack) -> str:
    """Answers that run when the gateway is told to stop are finished, and the exit status is 0."""
    secret = stack.inside("gateway", "sluice", "key", "create", "drain", "--file", KEY_FILE)
    model = eventually(lambda: ask(f"{GATEWAY}/v1/models", key=secret), 10)["data"][0]["id"]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Tell me a long story."}],
        "max_tokens": 400,
        "stream": True,
        "ignore_eos": True,
    }
    ends: list[str] = []

    def talk() -> None:
        """One answer after the other, so that some run whenever the gateway is told to stop."""
        while True:
            try:
                lines = fetch(f"{GATEWAY}/v1/chat/completions", body, secret).splitlines()
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    ends.append(str(error))
                return
            except urllib.error.URLError:
                return  # It takes no new requests.
            except (OSError, http.client.HTTPException) as error:
                ends.append(f"cut off: {error!r}")
                return
            ends.append([line for line in lines if line.startswith("data: ")][-1])

    talkers = [threading.Thread(target=talk) for _ in range(2)]
    for talker in talkers:
        talker.start()
    eventually(lambda: ends, 60)
    stack.compose("stop", "gateway")
    for talker in talkers:
        talker.join()
    assert set(ends) == {"data: [DONE]"}, ends
    log = stack.compose("logs", "--no-color", "gateway")
    running = re.search(r'"running":(\d+),.*"event":"draining"', log)
    assert running is not None, "the gateway did not say that it drains"
    assert int(running[1]) >= 1, "no answer ran when the gateway was told to stop"
    status = stack.exit_status("gateway")
    assert status == 0, f"the gateway ended with status {status}"
    return f"{len(ends)} answers whole, {running[1]} running at the word to stop; exit status {status}"


NEED_A_MODEL = (kept,)
"""Not for the fake engine, which has no KV layer."""

ALL: tuple[Callable[[Stack], str], ...] = (
    health,
    page,
    ready,
    answer,
    stream,
    names,
    valkey,
    kept,
    webrtc,
    rights,
    scraped,
    dashboard,
    healthy,
    keys,
    drain,
)
