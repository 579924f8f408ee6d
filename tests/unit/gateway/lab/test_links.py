from __future__ import annotations

import random

import pytest

from gateway.lab.arrivals import token_times
from gateway.lab.case import Case
from gateway.lab.links import PUBLISHED, Link, Wire, parse_links

HOUR = 3600.0


def lost_time(link: Link) -> float:
    return sum(end - start for start, end in link.outages(random.Random(1), HOUR)) / HOUR


def test_bad_periods_take_the_share_of_time_that_was_asked_for() -> None:
    assert lost_time(Link("", loss=0.05, burst=100)) == pytest.approx(0.05, rel=0.1)
    assert lost_time(Link("", loss=0.05, burst=200, bad_loss=0.5)) == pytest.approx(0.1, rel=0.1)


def test_bad_periods_have_the_length_that_was_asked_for() -> None:
    periods = Link("", loss=0.05, burst=100).outages(random.Random(1), HOUR)
    assert sum(end - start for start, end in periods) / len(periods) == pytest.approx(0.1, rel=0.1)
    assert all(b > a for (_, a), (b, _) in zip(periods, periods[1:], strict=False))


def test_scripted_outages_have_their_exact_length() -> None:
    periods = Link("", burst=500, every=4000).outages(random.Random(1), HOUR)
    assert {round(end - start, 9) for start, end in periods} == {0.5}
    assert len(periods) == pytest.approx(HOUR / 4, rel=0.05)


def test_independent_losses_are_as_frequent_as_asked_for() -> None:
    wire = Wire(Link("", loss=0.1), [], random.Random(1), limited=True)
    lost = sum(wire.send(n / 100, 100) is None for n in range(20_000))
    assert lost / 20_000 == pytest.approx(0.1, rel=0.1)


def test_nothing_passes_in_an_outage_and_all_else_takes_half_the_round_trip() -> None:
    wire = Wire(Link("", rtt=80, loss=0.5, burst=100), [(1.0, 2.0)], random.Random(1), limited=True)
    assert [wire.send(at, 100) for at in (0.5, 1.0, 1.9, 2.0)] == [0.54, None, None, 2.04]
    assert (wire.packets, wire.arrived, wire.bytes) == (4, 2, 400)


def test_a_rate_makes_packets_queue_and_a_full_queue_drops() -> None:
    wire = Wire(Link("", rtt=20, rate=80, queue=2000), [], random.Random(1), limited=True)
    arrivals = [wire.send(0.0, 1000) for _ in range(4)]
    assert arrivals == [pytest.approx(0.11), pytest.approx(0.21), pytest.approx(0.31), None]


def test_jitter_keeps_the_order() -> None:
    wire = Wire(Link("", jitter=30), [], random.Random(1), limited=True)
    arrivals = [wire.send(n / 1000, 100) for n in range(500)]
    kept = [at for at in arrivals if at is not None]
    assert kept == sorted(kept)
    assert len(kept) == 500


def test_both_directions_fade_together_unless_told_otherwise() -> None:
    link = Link("", loss=0.2, burst=100)
    case = Case(link, 1)
    times = [n / 100 for n in range(1000)]
    assert [case.down.send(t, 1) is None for t in times] == [case.up.send(t, 1) is None for t in times]
    case = Case(Link("", loss=0.2, burst=100, shared=False), 1)
    assert [case.down.send(t, 1) is None for t in times] != [case.up.send(t, 1) is None for t in times]


def test_a_seed_gives_the_same_tokens_and_bad_periods() -> None:
    link = Link("", loss=0.05, burst=100, tokens=0)
    assert (Case(link, 3).ready, Case(link, 3).outages) == (Case(link, 3).ready, Case(link, 3).outages)
    assert Case(link, 3).outages != Case(link, 4).outages


@pytest.mark.parametrize("rate", [0, 10, 100])
def test_tokens_take_as_long_as_the_answer(rate: float) -> None:
    times = token_times(rate, 10.0, random.Random(1))
    assert times[0] == 0
    assert times == sorted(times)
    assert times[-1] == pytest.approx(10.0, rel=0.2)


def test_links_are_found_by_name_or_made_of_properties() -> None:
    assert parse_links("published") == list(PUBLISHED)
    assert [link.rtt for link in parse_links("far")] == [400]
    (link,) = parse_links("rtt=60,loss=10%,burst=150,shared=0,queue=100")
    assert (link.rtt, link.loss, link.burst, link.shared, link.queue) == (60, 0.1, 150, False, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moon", "no link is called 'moon'"),
        ("rtt=100,lag=3", "'lag' is not a property"),
        ("rtt=fast", "not a number"),
        ("rtt=0", "must be positive"),
        ("loss=1", "below bad_loss"),
        ("every=100", "burst must be positive"),
    ],
)
def test_what_is_no_link_is_refused_with_advice(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_links(text)


def test_published_links_have_names_of_their_own() -> None:
    assert len({link.name for link in PUBLISHED}) == len(PUBLISHED)
