from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.lab.case import Case
from gateway.lab.links import Link, parse_links
from gateway.lab.readers import shown
from gateway.lab.schemes import SCHEMES
from gateway.lab.stream import run
from gateway.lab.tcp import TcpStream

CALM = Link("calm", tokens=20, seconds=3)
BURSTS = Link("bursts", loss=0.08, burst=150, tokens=20, seconds=5)


def delays(scheme: str, link: Link, seed: int = 0) -> list[float]:
    """How long after its writing each token was shown."""
    case = Case(link, seed)
    SCHEMES[scheme].carry(case)
    return [at - ready for at, ready in zip(shown(case.arrived, 1e9), case.ready, strict=True)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_on_a_calm_link_every_token_takes_the_one_way_delay(scheme: str) -> None:
    assert delays(scheme, CALM) == pytest.approx([0.05] * 60)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "link",
    [
        BURSTS,
        Link("independent", loss=0.2, tokens=20, seconds=5),
        Link("one way", loss=0.2, burst=500, shared=False, jitter=10, tokens=20, seconds=5),
        Link("thin", rate=128, queue=4000, loss=0.05, burst=100, tokens=20, seconds=5),
    ],
    ids=lambda link: link.name,
)
def test_every_scheme_delivers_every_token(scheme: str, link: Link) -> None:
    for seed in range(3):
        assert run(link, scheme, seed).missing == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_can_be_repeated(scheme: str) -> None:
    assert run(BURSTS, scheme, 5) == run(BURSTS, scheme, 5)


@pytest.mark.parametrize("scheme", sorted(SCHEMES.keys() - {"oracle", "eloquent-two-paths"}))
def test_no_scheme_is_faster_than_the_oracle(scheme: str) -> None:
    for seed in range(5):
        for ours, floor in zip(delays(scheme, BURSTS, seed), delays("oracle", BURSTS, seed), strict=True):
            assert ours >= floor - 1e-9


def scripted(lost: set[int], link: Link = CALM) -> tuple[Case, TcpStream]:
    """A connection whose segments with these numbers (from 0) are lost on the way down."""
    case = Case(link, 0)
    send = case.down.send
    numbers: Iterator[int] = iter(range(10**6))
    case.down.send = lambda now, size: None if next(numbers) in lost else send(now, size)  # type: ignore[method-assign]
    return case, TcpStream(case)


def carried(lost: set[int], tokens: int = 60) -> list[float]:
    case, stream = scripted(lost)
    for token, at in enumerate(case.ready[:tokens]):
        case.clock.at(at, stream.write, token)
    case.missing = tokens
    case.run()
    return [at - ready for at, ready in zip(case.arrived, case.ready[:tokens], strict=False)]


def test_tcp_repairs_one_lost_segment_by_the_acknowledgements_of_later_ones() -> None:
    waits = carried({20})
    # the next segment leaves 50 ms later; when its acknowledgement comes the lost one is older than a round
    # trip and the reordering window, and is sent again
    assert waits[20] == pytest.approx(0.05 + 0.1 + 0.05)
    assert max(waits[:20] + waits[26:]) == pytest.approx(0.05)


def test_tcp_repairs_a_lost_tail_by_a_probe() -> None:
    waits = carried({59})
    assert waits[59] == pytest.approx(0.05 + 2 * 0.1 + 0.2, abs=0.03)


def test_tcp_doubles_its_timer_while_nothing_comes_back() -> None:
    one = carried({59, 60, 61}, 60)[59]
    two = carried({59, 60, 61, 62}, 60)[59]
    three = carried({59, 60, 61, 62, 63}, 60)[59]
    assert 0.6 < one < two < three
    assert three - two == pytest.approx(2 * (two - one), rel=0.01)


def test_eloquent_waits_for_the_next_packet_that_arrives_whatever_the_round_trip_time() -> None:
    """With independent losses p and an interval T a token waits T * p / (1 - p) on average."""
    loss, interval = 0.2, 0.05
    for rtt in (40.0, 400.0):
        link = Link("", rtt=rtt, loss=loss, tokens=1 / interval, seconds=400)
        waits = [wait - rtt / 2000 for wait in delays("eloquent-no-copies", link)]
        assert sum(waits) / len(waits) == pytest.approx(interval * loss / (1 - loss), rel=0.4)


def test_the_oracle_waits_for_the_end_of_an_outage() -> None:
    link = Link("", burst=500, every=4000, tokens=20, seconds=5)
    case = Case(link, 2)
    SCHEMES["oracle"].carry(case)
    start, end = case.outages[0]
    for ready, at in zip(case.ready, case.arrived, strict=True):
        if start < ready < end:
            assert at == pytest.approx(end + 0.05)


def test_tokens_come_as_recorded_on_links_that_say_so() -> None:
    (link,) = parse_links("tokens=0")
    gaps = [b - a for a, b in zip(Case(link, 1).ready, Case(link, 1).ready[1:], strict=False)]
    assert len(set(gaps)) > 10
