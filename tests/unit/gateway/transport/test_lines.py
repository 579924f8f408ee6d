from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.transport import lines as lines_module
from gateway.transport.calls import Calls
from gateway.transport.lines import Lines, Loaded, WebrtcUnavailable, webrtc_lines
from gateway.transport.settings import RealtimeSettings


def new_line() -> Any:
    raise AssertionError("nobody asked for a line")


async def test_it_is_loaded_once_and_not_by_the_loops_thread() -> None:
    threads: list[int] = []
    both_ask = threading.Event()

    def load() -> Loaded:
        threads.append(threading.get_ident())
        assert both_ask.wait(60)
        return Loaded(new_line, "no timers")

    lines = Lines(load)
    await asyncio.sleep(0)
    assert threads == [], "nothing is loaded before somebody asks"
    asking = [asyncio.create_task(lines.loaded()) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    both_ask.set()
    assert [(await task).eloquent_problem for task in asking[1:]] == ["no timers"] * 2
    assert (await lines.loaded()).new_line is new_line
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    assert asking[0].cancelled()


async def test_what_cannot_be_loaded_is_told_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[None] = []

    def load() -> Loaded:
        tries.append(None)
        raise AttributeError("module 'lib' has no attribute 'X509_V_FLAG'")

    lines = Lines(load)
    assert lines.reason == ""
    with caplog.at_level(logging.CRITICAL):
        for _ in range(2):
            with pytest.raises(WebrtcUnavailable, match=r"AttributeError.*X509_V_FLAG.*pip install") as error:
                await lines.loaded()
            assert (error.value.status, error.value.code) == (501, "webrtc_unavailable")
    assert len(tries) == 1
    assert "cannot be loaded" in lines.reason


async def test_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WebrtcUnavailable, match=r"aiortc.*pip install 'sluice\[webrtc\]'"):
        await webrtc_lines(RealtimeSettings()).loaded()


async def test_where_it_is_switched_off() -> None:
    with pytest.raises(WebrtcUnavailable, match=r"realtime\.enabled"):
        await webrtc_lines(RealtimeSettings(enabled=False)).loaded()


async def test_what_is_said_of_calls_before_one_is_offered() -> None:
    def calls_of(lines: Lines) -> Calls:
        nothing: Any = SimpleNamespace()
        return Calls(RealtimeSettings(), nothing, nothing, lines)

    assert await calls_of(Lines(None, "install it")).unavailable() == ("install it", "install it")
    assert await calls_of(Lines(lambda: Loaded(new_line, None))).unavailable() == (None, None)
    assert await calls_of(Lines(lambda: Loaded(new_line, "no timers"))).unavailable() == (None, "no timers")


async def test_the_library_itself() -> None:
    if importlib.util.find_spec("aiortc") is None:
        pytest.skip("the extra `webrtc` is not installed")
    made = await webrtc_lines(RealtimeSettings()).loaded()
    assert made.eloquent_problem is None
    assert "gateway.transport.webrtc" in sys.modules
