"""Timers of aiortc's SCTP that suit a thin stream.

As released, a message on an "unreliable" channel still waits for a retransmission timer of at least a second
(three before the first measurement), and when it fires the window falls to one packet: in outages that makes
Eloquent worse than TCP. Here the timer follows the round trip as it does in Linux' TCP, and the window keeps
TCP's initial ten packets (RFC 6928), which a token stream never fills.

The names are private, hence the exact pin of aiortc, and the check before anything relies on them.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

RTO_INITIAL = 1.0
RTO_MIN = 0.2
RTO_MAX = 2.0
WINDOW_PACKETS = 10

_METHODS = {
    "_update_rto": ["self", "R"],
    "_t3_expired": ["self"],
    "_t3_start": ["self"],
    "_transmit": ["self"],
    "_data_channel_flush": ["self"],
}
_ATTRIBUTES = ("_cwnd", "_rto", "_srtt", "_rttvar", "_outbound_queue")


def problem_of(transport_class: type[Any], source: str) -> str | None:
    """Why the repair does not fit this version of `RTCSctpTransport`, None if it does.

    `source` is the text of its module: attributes are set in its methods and cannot be seen otherwise.
    """
    return lack_of(transport_class, source, _METHODS, _ATTRIBUTES)


def lack_of(
    transport_class: type[Any], source: str, methods: Mapping[str, list[str]], attributes: Sequence[str]
) -> str | None:
    """The first of `methods` (with their parameters) and `attributes` that the class lacks, None if none."""
    for name, parameters in methods.items():
        method = getattr(transport_class, name, None)
        if method is None or list(inspect.signature(method).parameters) != parameters:
            return f"aiortc's RTCSctpTransport has no method {name}({', '.join(parameters)})"
    for name in attributes:
        if f"self.{name}" not in source:
            return f"aiortc's RTCSctpTransport has no attribute {name}"
    return None


def repair(association: Any, packet_bytes: int) -> None:
    """Give one association, before it is started, the timers and the window above."""
    update_rto, t3_expired = association._update_rto, association._t3_expired
    window = WINDOW_PACKETS * packet_bytes

    def update(r: float) -> None:
        update_rto(r)
        association._rto = min(max(association._srtt + 4 * association._rttvar, RTO_MIN), RTO_MAX)

    def expired() -> None:
        t3_expired()
        # The retransmissions that it has just planned run later in this loop, with this window.
        association._cwnd = max(association._cwnd, window)

    association._rto = RTO_INITIAL
    association._cwnd = max(association._cwnd, window)
    association._update_rto, association._t3_expired = update, expired
    association._transmit = _unless_lost(association._transmit)
    association._data_channel_flush = _unless_lost(association._data_channel_flush)


def _unless_lost(send: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """These run as tasks that nobody awaits: on a connection that is gone each would leave a traceback."""

    async def quiet() -> None:
        with contextlib.suppress(ConnectionError):
            await send()

    return quiet
