"""Streaming policies, by plans that can be worked out by hand."""

from __future__ import annotations

import pytest

from cache.stream import (
    TEXT,
    ChunkBudget,
    Fixed,
    LookAhead,
    Policy,
    Progress,
    RemainingTime,
    StoredContext,
    Transfer,
)

LEVELS = (100, 50, 10)


def context(chunks: int = 4, text: float = 10.0, decode: float = 0.0) -> StoredContext:
    return StoredContext((LEVELS,) * chunks, (text,) * chunks, (decode,) * chunks, (0.0, 1.0, 5.0))


def after(elapsed: float, chunk: int, *rates: float, pending: float = 0.0) -> Progress:
    return Progress(elapsed, chunk, [Transfer(100, 100 / rate) for rate in rates], pending)


def test_a_context_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="for every chunk"):
        StoredContext(((1,),), (1.0, 1.0), (0.0,), (0.0,))
    with pytest.raises(ValueError, match="for every level"):
        StoredContext(((1, 2),), (1.0,), (0.0,), (0.0,))


def test_a_fixed_level_is_fixed() -> None:
    assert Fixed(2, "small").choose(context(), after(0, 0), 1.0) == 2


class TestRemainingTime:
    rule = RemainingTime(default=1)

    def test_the_first_chunk_takes_the_default(self) -> None:
        assert self.rule.choose(context(), after(0, 0), 4.0) == 1

    def test_or_what_an_earlier_throughput_allows(self) -> None:
        assert RemainingTime(1, prior=100.0).choose(context(), after(0, 0), 4.0) == 0

    def test_text_where_all_that_is_left_can_be_computed(self) -> None:
        assert self.rule.choose(context(text=1.0), after(0, 0), 4.0) == TEXT
        assert self.rule.choose(context(text=1.0), after(0.1, 0), 4.0) == 1
        assert self.rule.choose(context(text=1.0), after(2.5, 3, 10.0, pending=0.6), 4.0) != TEXT

    @pytest.mark.parametrize(("rate", "level"), [(100.0, 0), (99.0, 1), (50.0, 1), (10.0, 2), (0.1, 2)])
    def test_the_best_level_at_which_the_rest_arrives(self, rate: float, level: int) -> None:
        assert self.rule.choose(context(), after(1.0, 1, rate), 4.0) == level

    def test_only_the_last_throughput_counts(self) -> None:
        assert self.rule.choose(context(), after(2.0, 2, 1.0, 100.0), 4.0) == 0


class TestChunkBudget:
    def test_each_chunk_has_its_share(self) -> None:
        rule, late = ChunkBudget(), 3.9
        progress = Progress(late, 3, (), foreseen=50.0)
        assert rule.choose(context(), progress, 4.0) == 1
        assert rule.choose(context(text=1.0), progress, 4.0) == TEXT

    def test_it_needs_foresight(self) -> None:
        with pytest.raises(ValueError, match="in advance"):
            ChunkBudget().choose(context(), after(0, 0), 4.0)


class TestLookAhead:
    rule = LookAhead(1, caution=0.0)

    def test_without_any_measurement_it_takes_the_default(self) -> None:
        assert self.rule.choose(context(), after(0, 0), 4.0) == 1
        assert self.rule.choose(context(text=1.0), after(0, 0), 4.0) == TEXT

    def test_part_of_the_chunks_is_computed_while_the_others_travel(self) -> None:
        # Two of three chunks at 1 s each as text; meanwhile the third arrives at the best level.
        progress = after(2.0, 1, 50.0)
        assert self.rule.choose(context(text=1.0), progress, 4.0) == TEXT
        # Without overlap the rest has to be loaded first: 2 s are enough for three at the smallest, or for
        # fewer and one computed.
        assert LookAhead(1, caution=0.0, overlap=False).choose(context(text=2.0), progress, 4.0) == 2

    def test_what_is_pending_delays_text(self) -> None:
        assert self.rule.choose(context(text=1.0), after(2.0, 3, 1.0), 4.0) == TEXT
        assert self.rule.choose(context(text=1.0), after(2.0, 3, 50.0, pending=1.5), 4.0) == 0

    def test_caution_makes_it_choose_smaller(self) -> None:
        progress = after(1.0, 1, 100.0)
        assert self.rule.choose(context(), progress, 4.0) == 0
        assert LookAhead(1, caution=0.5).choose(context(), progress, 4.0) == 1

    def test_a_link_that_varies_is_trusted_less(self) -> None:
        progress = after(1.0, 1, 60.0, 300.0)
        steady = after(1.0, 1, 100.0, 100.0)
        assert self.rule.choose(context(), steady, 4.0) == 0
        assert self.rule.choose(context(), progress, 4.0) == 1

    def test_where_nothing_ends_in_time_the_earliest_end_wins(self) -> None:
        assert self.rule.choose(context(text=1.0), after(9.0, 3, 0.1), 4.0) == TEXT
        assert self.rule.choose(context(text=1e6), after(9.0, 3, 0.1), 4.0) == 2

    def test_decoding_takes_time(self) -> None:
        assert self.rule.choose(context(decode=0.5), after(1.0, 1, 100.0), 4.0) == 1


@pytest.mark.parametrize(
    "policy", [RemainingTime(1), LookAhead(1), LookAhead(1, overlap=False), LookAhead(0, prior=1.0)]
)
def test_every_answer_is_a_level_or_text(policy: Policy) -> None:
    for rate in (1e-9, 1.0, 1e9):
        for chunk in range(4):
            for slo in (1e-9, 1.0, 1e9):
                progress = after(0.5, chunk, *[rate] * chunk)
                assert policy.choose(context(text=0.5), progress, slo) in (TEXT, 0, 1, 2)
