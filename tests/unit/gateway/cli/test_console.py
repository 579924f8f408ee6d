from __future__ import annotations

import io
import json
import shlex

import pytest

from engine_adapter.api import WorkerInfo, WorkerState
from gateway.cli.console import Console, curl_line
from gateway.cli.listener import ListenError, ListenSettings, address_of, bind_listener, browsable_url

URL = "http://127.0.0.1:8080"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def info(state: WorkerState, message: str = "") -> WorkerInfo:
    return WorkerInfo("worker-0", "http://w", "base", state, message, log="/logs/worker-0.log")


def test_progress_off_a_terminal_is_one_line_per_phase() -> None:
    out = io.StringIO()
    console = Console(URL, keys=False, out=out)
    for second in range(20):
        console.worker(info("starting", "loading" if second < 10 else "almost"), float(second))
    console.worker(info("ready"), 20.0)
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        "worker-0 (base): loading ... 0 s",
        "worker-0 (base): almost ... 10 s",
        "worker-0 (base) is ready after 20 s",
    ]


def test_a_long_phase_is_mentioned_again() -> None:
    out = io.StringIO()
    console = Console(URL, keys=False, out=out)
    for second in range(100):
        console.worker(info("starting", "loading"), float(second))
    assert len(out.getvalue().splitlines()) == 4


def test_on_a_terminal_progress_rewrites_its_line() -> None:
    out = Terminal()
    console = Console(URL, keys=False, out=out)
    console.worker(info("starting", "loading"), 1.0)
    console.worker(info("starting", "loading"), 2.0)
    console.worker(info("ready"), 3.0)
    text = out.getvalue()
    assert text.count("\n") == text[text.index("is ready") :].count("\n")
    assert "loading ... 2 s" in text


def test_a_failure_shows_its_reason_and_the_log() -> None:
    out = io.StringIO()
    Console(URL, keys=False, out=out).worker(info("failed", "no model there"), 1.0)
    assert "worker-0 does not start: no model there" in out.getvalue()
    assert "/logs/worker-0.log" in out.getvalue()


def test_the_example_is_shown_once() -> None:
    out = io.StringIO()
    console = Console(URL, keys=False, out=out)
    console.worker(info("ready"), 1.0)
    console.worker(info("backoff", "it died"), 2.0)
    console.worker(info("ready"), 3.0)
    assert out.getvalue().count("curl ") == 1


def test_a_gateway_without_workers_says_how_to_add_some() -> None:
    out = io.StringIO()
    Console(URL, keys=False, out=out).without_workers()
    assert "--worker-url" in out.getvalue()
    assert "/admin/workers" in out.getvalue()


def test_the_curl_line_survives_a_shell() -> None:
    words = shlex.split(curl_line(URL, "it's/a model", keys=False))
    assert words[:2] == ["curl", f"{URL}/v1/chat/completions"]
    body = json.loads(words[words.index("-d") + 1])
    assert body["model"] == "it's/a model"
    assert body["messages"][0]["role"] == "user"


def test_the_curl_line_asks_with_a_key_where_keys_are_asked_for() -> None:
    assert "Bearer $SLUICE_API_KEY" in curl_line(URL, "m", keys=True)
    assert "Bearer" not in curl_line(URL, "m", keys=False)


def test_a_free_port_is_bound_and_can_be_shared() -> None:
    with bind_listener(ListenSettings(port=0)) as listener:
        host, port = address_of(listener)
        assert host == "127.0.0.1"
        assert port > 0
        assert listener.get_inheritable()
        with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 is taken"):
            bind_listener(ListenSettings(port=port))


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(ListenError, match="has no address 192.0.2.77"):
        bind_listener(ListenSettings(host="192.0.2.77", port=0))


def test_an_unknown_host_is_said_so() -> None:
    with pytest.raises(ListenError, match="cannot listen on 'no such host'"):
        bind_listener(ListenSettings(host="no such host", port=0))


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:80"),
        ("0.0.0.0", False, "http://localhost:80"),
        ("::1", True, "https://[::1]:80"),
    ],
)
def test_the_url_that_is_shown_works_on_this_machine(host: str, tls: bool, url: str) -> None:
    assert browsable_url(host, 80, tls=tls) == url
