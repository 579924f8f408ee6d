from __future__ import annotations

from gateway.transport.stream import Stream
from gateway.transport.token_log import TokenLog


def test_a_reader_that_breaks_ends_nothing_but_itself() -> None:
    stream = Stream("id", "", "chat", "resumable", TokenLog(1 << 16), 0.0)
    heard: list[str] = []

    def breaks() -> None:
        heard.append("broken")
        raise RuntimeError("a reader's own fault")

    stream.listeners[breaks] = None
    stream.listeners[lambda: heard.append("whole")] = None
    stream.notify()
    stream.notify()
    assert heard == ["broken", "whole", "whole"]
