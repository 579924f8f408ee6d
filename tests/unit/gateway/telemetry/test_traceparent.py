from __future__ import annotations

import pytest

from gateway.telemetry.traceparent import TraceContext, new_trace, parse

HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_round_trip() -> None:
    context = parse(HEADER)
    assert context == TraceContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, sampled=True)
    assert str(context) == HEADER
    assert parse(str(new_trace(sampled=False))) is not None


def test_a_child_stays_in_its_trace() -> None:
    context = parse(HEADER)
    assert context is not None
    child = context.child()
    assert (child.trace_id, child.sampled) == (context.trace_id, True)
    assert child.span_id != context.span_id


def test_other_flags_do_not_sample() -> None:
    unsampled = parse(HEADER[:-2] + "02")
    assert unsampled is not None
    assert not unsampled.sampled


def test_a_later_version_may_have_more() -> None:
    assert parse("01" + HEADER[2:] + "-what-comes") is not None


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        HEADER.upper(),
        HEADER + "-more",
        "ff" + HEADER[2:],
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        HEADER[:-1],
    ],
)
def test_what_is_not_valid_is_no_context(header: str | None) -> None:
    assert parse(header) is None
