from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_adapter.fake.block_pool import BlockPool
from engine_adapter.fake.config import PrefixCacheConfig, Timing
from engine_adapter.fake.scheduler import Job, Scheduler
from engine_adapter.fake.stats import Phase, Stats
from engine_adapter.fake.timer_wheel import TimerWheel
from engine_adapter.fake.tokens import Prompt

SLOT = 0.001


class Log:
    """A sink that notes what happens when."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.steps: list[float] = []
        self.completed: float | None = None

    def step(self, job: Job, index: int) -> None:
        assert index == len(self.steps)
        self.steps.append(self.bench.now)

    def complete(self, job: Job) -> None:
        assert self.completed is None
        self.completed = self.bench.now


class Bench:
    """A scheduler with a clock that jumps to whatever is due."""

    def __init__(
        self, timing: Timing | None = None, max_num_seqs: int = 256, pool: BlockPool | None = None
    ) -> None:
        self.now = 0.0
        self.stats = Stats()
        self.scheduler = Scheduler(timing or Timing(), max_num_seqs, self.stats, pool)

    def submit(
        self, tokens: int = 4, *, prompt_tokens: int = 10, streaming: bool = True, first_id: int = 1
    ) -> Job:
        log = Log(self)
        job = Job(
            request_id=f"job-{first_id}",
            model="fake",
            prompts=[Prompt.from_ids(range(first_id, first_id + prompt_tokens))],
            sink=log,
            streaming=streaming,
            steps=tokens,
            answers=[[f"w{n:02d} " for n in range(tokens)]] if tokens else (),
        )
        self.scheduler.submit(job, self.now)
        return job

    def run(self, until: float = math.inf) -> None:
        """Advance from one due time to the next until nothing is due before `until`."""
        while (when := self.scheduler.next_when(self.now)) is not None and when <= until:
            self.now = max(self.now, when)
            self.scheduler.advance(self.now)
        if until < math.inf:
            self.now = until


def log_of(job: Job) -> Log:
    assert isinstance(job.sink, Log)
    return job.sink


def test_without_timing_an_unwatched_job_is_done_at_once() -> None:
    bench = Bench()
    job = bench.submit(streaming=False)
    assert log_of(job).completed == 0.0
    assert job.phase is Phase.DONE
    assert bench.stats.generation_tokens == 4


def test_without_timing_streams_take_turns() -> None:
    bench = Bench()
    jobs = [bench.submit(3, first_id=n) for n in (1, 100)]
    assert [len(log_of(job).steps) for job in jobs] == [1, 1]
    bench.scheduler.advance(0.0)
    assert [len(log_of(job).steps) for job in jobs] == [2, 2]
    bench.run()
    assert all(log_of(job).completed == 0.0 for job in jobs)


def test_first_token_comes_after_the_prefill_and_the_others_at_the_itl() -> None:
    bench = Bench(Timing(prefill_base_s=0.1, prefill_tokens_per_s=100, itl_base_s=0.02, itl_slope_s=0.01))
    job = bench.submit(4, prompt_tokens=10)
    bench.run()
    expected = [0.2 + 0.03 * n for n in range(4)]
    assert log_of(job).steps == pytest.approx(expected, abs=2 * SLOT)


def test_the_itl_grows_with_the_batch() -> None:
    bench = Bench(Timing(itl_slope_s=0.01))
    jobs = [bench.submit(3, first_id=n * 100) for n in range(4)]
    bench.run()
    # All four run from the start, so each waits four slopes per token while all are there.
    assert log_of(jobs[0]).steps[1] == pytest.approx(0.04, abs=0.03 + SLOT)
    assert log_of(jobs[3]).steps[1] == pytest.approx(0.04, abs=2 * SLOT)


def test_unwatched_jobs_take_as_long_as_streams() -> None:
    timing = Timing(prefill_base_s=0.1, itl_base_s=0.02)
    watched, unwatched = Bench(timing), Bench(timing)
    stream, whole = watched.submit(10), unwatched.submit(10, streaming=False)
    watched.run()
    unwatched.run()
    assert log_of(whole).completed == pytest.approx(log_of(stream).completed, abs=2 * SLOT)


def test_an_unwatched_jobs_progress_can_be_seen() -> None:
    bench = Bench(Timing(itl_base_s=0.1))
    job = bench.submit(10, streaming=False)
    bench.run(until=0.45)
    assert job.emitted == 5
    bench.scheduler.abort(job, bench.now)
    assert bench.stats.aborts[0].tokens == 5


def test_speed_divides_every_duration() -> None:
    bench = Bench(Timing(prefill_base_s=1, itl_base_s=1, speed=10))
    job = bench.submit(3)
    bench.run()
    assert log_of(job).completed == pytest.approx(0.3, abs=3 * SLOT)


def test_one_prefill_at_a_time() -> None:
    bench = Bench(Timing(prefill_base_s=0.1))
    jobs = [bench.submit(1, first_id=n * 100) for n in range(3)]
    bench.run()
    assert [log_of(job).completed for job in jobs] == pytest.approx([0.1, 0.2, 0.3], abs=3 * SLOT)


def test_prefills_without_a_bound_overlap() -> None:
    bench = Bench(Timing(prefill_base_s=0.1, prefill_slots=0))
    jobs = [bench.submit(1, first_id=n * 100) for n in range(3)]
    bench.run()
    assert [log_of(job).completed for job in jobs] == pytest.approx([0.1] * 3, abs=SLOT)


def test_the_running_set_is_bounded_and_the_queue_is_served_in_order() -> None:
    bench = Bench(Timing(itl_base_s=0.1), max_num_seqs=2)
    jobs = [bench.submit(2, first_id=n * 100) for n in range(4)]
    assert (bench.stats.running, bench.stats.waiting) == (2, 2)
    assert bench.scheduler.waiting == jobs[2:]
    bench.run()
    assert [log_of(job).completed for job in jobs] == pytest.approx([0.1, 0.1, 0.2, 0.2], abs=3 * SLOT)


def test_a_cached_prefix_shortens_the_prefill() -> None:
    pool = BlockPool(PrefixCacheConfig(num_blocks=64, block_size=4))
    bench = Bench(Timing(prefill_tokens_per_s=100), pool=pool)
    cold = bench.submit(1, prompt_tokens=40)
    bench.run()
    started = bench.now
    warm = bench.submit(1, prompt_tokens=40)
    bench.run()
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 36)
    assert log_of(cold).completed == pytest.approx(0.4, abs=SLOT)
    assert bench.now - started == pytest.approx(0.04, abs=2 * SLOT)


def test_prompts_beyond_the_whole_pool_do_not_block_the_queue() -> None:
    pool = BlockPool(PrefixCacheConfig(num_blocks=4, block_size=4))
    bench = Bench(pool=pool)
    log = Log(bench)
    prompts = [Prompt.from_ids(range(start, start + 12)) for start in (0, 100)]
    job = Job(
        request_id="two",
        model="fake",
        prompts=prompts,
        sink=log,
        streaming=False,
        steps=1,
        answers=[["a"], ["b"]],
    )
    bench.scheduler.submit(job, 0.0)
    assert log.completed == 0.0
    assert pool.usage == 0


def test_a_job_waits_for_kv_blocks() -> None:
    pool = BlockPool(PrefixCacheConfig(num_blocks=4, block_size=4))
    bench = Bench(Timing(itl_base_s=0.1), pool=pool)
    first = bench.submit(4, prompt_tokens=10)
    second = bench.submit(4, prompt_tokens=10, first_id=100)
    assert second.phase is Phase.QUEUED
    bench.run()
    assert log_of(first).completed == pytest.approx(0.3, abs=4 * SLOT)
    assert log_of(second).completed == pytest.approx(0.6, abs=8 * SLOT)
    assert pool.usage == 0


@pytest.mark.parametrize(
    ("moment", "phase"), [(0.05, Phase.QUEUED), (0.15, Phase.PREFILL), (0.25, Phase.DECODE)]
)
def test_an_abort_is_counted_in_its_phase_and_frees_its_place(moment: float, phase: Phase) -> None:
    bench = Bench(Timing(prefill_base_s=0.1, itl_base_s=0.1))
    ahead = bench.submit(1)
    job = bench.submit(5, first_id=100)
    behind = bench.submit(1, first_id=200)
    bench.run(until=moment)
    assert job.phase is phase
    bench.scheduler.abort(job, bench.now)
    bench.scheduler.abort(job, bench.now)
    bench.run()
    assert bench.stats.aborted == {p: int(p is phase) for p in (Phase.QUEUED, Phase.PREFILL, Phase.DECODE)}
    assert bench.stats.aborts[0].phase is phase
    assert log_of(job).completed is None
    assert log_of(ahead).completed is not None
    assert log_of(behind).completed is not None
    assert (bench.stats.running, bench.stats.waiting) == (0, 0)


def test_a_failed_job_is_no_abort() -> None:
    bench = Bench(Timing(itl_base_s=0.1))
    job = bench.submit(5)
    bench.scheduler.fail(job, 0.0)
    assert bench.stats.aborted_total == 0
    assert bench.stats.finished["error"] == 1
    assert bench.stats.running == 0


def test_a_parked_stream_makes_no_progress_and_goes_on_when_resumed() -> None:
    bench = Bench(Timing(itl_base_s=0.1))
    job = bench.submit(4)
    bench.scheduler.park(job)
    bench.run(until=5.0)
    assert len(log_of(job).steps) == 1
    bench.scheduler.resume(job, bench.now)
    bench.run()
    assert log_of(job).completed == pytest.approx(5.3, abs=4 * SLOT)


def test_parking_and_resuming_at_once_does_not_double_the_tokens() -> None:
    bench = Bench(Timing(itl_base_s=0.1))
    job = bench.submit(4)
    for _ in range(3):
        bench.scheduler.park(job)
        bench.scheduler.resume(job, bench.now)
    bench.run()
    assert log_of(job).steps == pytest.approx([0, 0.1, 0.2, 0.3], abs=4 * SLOT)


def test_a_job_parked_in_its_prefill_gives_the_slot_free() -> None:
    bench = Bench(Timing(prefill_base_s=0.1))
    parked = bench.submit(2)
    bench.scheduler.park(parked)
    other = bench.submit(1, first_id=100)
    bench.run()
    assert parked.phase is Phase.PREFILL
    assert log_of(other).completed == pytest.approx(0.2, abs=2 * SLOT)
    bench.scheduler.resume(parked, bench.now)
    bench.run()
    assert len(log_of(parked).steps) == 2


@given(st.integers(0, 2**32), st.booleans())
def test_counters_return_to_zero_whatever_happens(seed: int, timed: bool) -> None:
    dice = random.Random(seed)
    timing = Timing(prefill_base_s=0.01, itl_base_s=0.005, itl_slope_s=0.001) if timed else Timing()
    pool = BlockPool(PrefixCacheConfig(num_blocks=40, block_size=4))
    bench = Bench(timing, max_num_seqs=4, pool=pool)
    jobs: list[Job] = []
    for _ in range(40):
        match dice.randrange(6):
            case 0 | 1 | 2:
                tokens = dice.randrange(0, 12)
                jobs.append(
                    bench.submit(
                        tokens,
                        prompt_tokens=dice.randrange(1, 30),
                        streaming=tokens > 0 and dice.random() < 0.7,
                        first_id=dice.randrange(3) * 1000,
                    )
                )
            case 3 if jobs:
                bench.scheduler.abort(dice.choice(jobs), bench.now)
            case 4 if jobs:
                job = dice.choice(jobs)
                bench.scheduler.park(job)
                bench.scheduler.resume(job, bench.now)
            case _:
                bench.run(until=bench.now + dice.random() * 0.05)
    bench.run()
    assert all(job.phase is Phase.DONE for job in jobs)
    assert (bench.stats.running, bench.stats.waiting, bench.scheduler.running) == (0, 0, [])
    assert pool.usage == 0
    assert sum(bench.stats.finished.values()) == len(jobs)
    for job in jobs:
        done = log_of(job)
        assert len(done.steps) <= job.steps
        assert done.completed is None or not job.streaming or len(done.steps) == job.steps


@given(st.lists(st.floats(0, 10), max_size=50))
def test_the_wheel_lets_nothing_out_early_and_nothing_late(times: list[float]) -> None:
    wheel: TimerWheel[float] = TimerWheel(SLOT)
    for when in times:
        wheel.schedule(when, when)
    seen: list[float] = []
    while (now := wheel.next_when()) is not None:
        due = wheel.pop_due(now)
        assert due
        assert all(when <= now + 1e-5 and now - when < SLOT + 1e-5 for when in due)
        seen += due
    assert sorted(seen) == sorted(times)
