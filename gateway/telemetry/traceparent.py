"""W3C trace context (https://www.w3.org/TR/trace-context/), as far as a relay needs it; no OpenTelemetry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import getrandbits

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's place in a trace."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"

    def child(self) -> TraceContext:
        """A new span of the same trace."""
        return TraceContext(self.trace_id, _identifier(64), self.sampled)


def new_trace(sampled: bool) -> TraceContext:
    """The first span of a trace of its own."""
    return TraceContext(_identifier(128), _identifier(64), sampled)


def parse(header: str | None) -> TraceContext | None:
    """The context of a `traceparent` header; None where there is none or it is not valid."""
    if header is None:
        return None
    match = _FORM.fullmatch(header.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    context = TraceContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1))
    if version == "ff" or (version == "00" and more) or not context.trace_id or not context.span_id:
        return None
    return context


def _identifier(bits: int) -> int:
    """Random and not 0, which the standard forbids."""
    return getrandbits(bits) or 1
