from __future__ import annotations

import pytest

from engine_adapter.fake.block_pool import NO_SCOPE, Allocation, BlockPool, CacheScope
from engine_adapter.fake.config import PrefixCacheConfig
from engine_adapter.fake.kv_events import AllBlocksCleared, BlockRemoved, BlockStored
from engine_adapter.fake.tokens import Prompt


def make_pool(blocks: int, size: int = 4) -> BlockPool:
    return BlockPool(PrefixCacheConfig(num_blocks=blocks, block_size=size), record_events=True)


def take(
    pool: BlockPool, prompt: Prompt, answer: tuple[str, ...] = (), scope: CacheScope = NO_SCOPE
) -> Allocation:
    allocation = pool.allocate(prompt, scope, answer)
    assert allocation is not None
    return allocation


def ids(*values: int) -> Prompt:
    return Prompt.from_ids(values)


def test_a_prefix_hits_block_by_block() -> None:
    pool = make_pool(16)
    pool.free(take(pool, ids(*range(10))))
    again = take(pool, ids(*range(8), 99, 98))
    assert again.cached_tokens == 8
    assert (pool.queried_tokens, pool.hit_tokens) == (20, 8)


def test_the_last_token_is_always_computed() -> None:
    pool = make_pool(16)
    pool.free(take(pool, ids(*range(8))))
    assert take(pool, ids(*range(8))).cached_tokens == 4


def test_stored_events_chain_and_carry_the_tokens() -> None:
    pool = make_pool(16)
    pool.free(take(pool, ids(*range(8))))
    (first,) = pool.take_events()
    assert isinstance(first, BlockStored)
    assert first.parent_block_hash is None
    assert first.token_ids == list(range(8))
    assert first.extra_keys == [None, None]
    pool.free(take(pool, ids(*range(8), *range(20, 24), 0)))
    (second,) = pool.take_events()
    assert isinstance(second, BlockStored)
    assert second.parent_block_hash == first.block_hashes[-1]
    assert second.token_ids == [20, 21, 22, 23]


def test_an_answer_is_cached_as_its_blocks_fill_and_serves_the_next_turn() -> None:
    pool = make_pool(16)
    answer = tuple(f"w{n:02d} " for n in range(6))
    allocation = take(pool, ids(1, 2, 3), answer)
    pool.take_events()
    for computed in range(4, 9):
        if computed >= allocation.next_block_at:
            pool.grow(allocation, computed)
    stored = pool.take_events()
    assert [len(event.block_hashes) for event in stored if isinstance(event, BlockStored)] == [1, 1]
    pool.free(allocation)
    turn = allocation.prompt.followed_by(answer)
    assert take(pool, turn).cached_tokens == 8


def test_growing_in_one_leap_stores_what_growing_by_one_does() -> None:
    answer = tuple(f"w{n:02d} " for n in range(20))
    slow, fast = make_pool(16), make_pool(16)
    one, other = take(slow, ids(1, 2, 3), answer), take(fast, ids(1, 2, 3), answer)
    for computed in range(4, 23):
        slow.grow(one, computed)
    fast.grow(other, 22)
    assert slow.cached_hashes() == fast.cached_hashes()
    assert len(one.blocks) == len(other.blocks) == 6


def test_leaves_are_evicted_before_their_parents_and_old_before_new() -> None:
    pool = make_pool(6)
    pool.free(take(pool, ids(*range(12))))
    pool.free(take(pool, ids(*range(50, 58))))
    stored = [event for event in pool.take_events() if isinstance(event, BlockStored)]
    take(pool, ids(*range(90, 98)))
    removed = [event.block_hashes[0] for event in pool.take_events() if isinstance(event, BlockRemoved)]
    # One block was never used; the other comes from the tail of the older chain.
    assert removed == [stored[0].block_hashes[2]]


def test_blocks_without_a_hash_are_reused_first() -> None:
    pool = make_pool(2)
    pool.free(take(pool, ids(*range(4))))
    pool.free(take(pool, ids(1)))
    take(pool, ids(2))
    assert not [event for event in pool.take_events() if isinstance(event, BlockRemoved)]


def test_a_pool_that_cannot_hold_the_whole_sequence_admits_nothing() -> None:
    pool = make_pool(4)
    held = take(pool, ids(*range(4)), tuple("abcdefgh"))
    usage = pool.usage
    assert pool.allocate(ids(*range(100, 108)), NO_SCOPE, ()) is None
    assert pool.usage == usage
    pool.free(held)
    assert take(pool, ids(*range(100, 108))).blocks


def test_held_blocks_are_never_evicted() -> None:
    pool = make_pool(4)
    take(pool, ids(*range(8)))
    take(pool, ids(*range(20, 27)))
    assert pool.usage == 1.0
    assert not [event for event in pool.take_events() if isinstance(event, BlockRemoved)]


def test_salt_and_adapter_keep_equal_prompts_apart() -> None:
    pool = make_pool(32)
    prompt = ids(*range(9))
    scopes = [NO_SCOPE, CacheScope(salt="a"), CacheScope(salt="b"), CacheScope("lora", "/lora", 1)]
    for scope in scopes:
        allocation = take(pool, prompt, scope=scope)
        assert allocation.cached_tokens == 0
        pool.free(allocation)
    for scope in scopes:
        assert take(pool, prompt, scope=scope).cached_tokens == 8


def test_events_show_extra_keys_untagged() -> None:
    pool = make_pool(8)
    take(pool, ids(*range(8)), scope=CacheScope("name", "/path", 1, "salt"))
    (event,) = pool.take_events()
    assert isinstance(event, BlockStored)
    assert event.extra_keys == [("name", "salt"), ("name",)]
    assert (event.lora_id, event.lora_name) == (1, "name")


def test_identical_blocks_are_not_merged_and_each_removal_is_told() -> None:
    pool = make_pool(4)
    first, second = take(pool, ids(*range(4))), take(pool, ids(*range(4)))
    pool.free(first)
    pool.free(second)
    pool.take_events()
    take(pool, ids(*range(30, 46)))
    assert sum(isinstance(event, BlockRemoved) for event in pool.take_events()) == 2


def test_reset_waits_for_the_running_and_then_clears_everything() -> None:
    pool = make_pool(8)
    allocation = take(pool, ids(*range(8)))
    assert pool.reset() is False
    pool.free(allocation)
    pool.take_events()
    assert pool.reset() is True
    assert pool.take_events() == [AllBlocksCleared()]
    assert take(pool, ids(*range(8))).cached_tokens == 0


@pytest.mark.parametrize("answer_length", [0, 1, 2, 5])
def test_everything_taken_and_reserved_comes_back(answer_length: int) -> None:
    pool = make_pool(8)
    for _ in range(20):
        pool.free(take(pool, ids(*range(7)), ("x",) * answer_length))
    assert pool.usage == 0.0
    whole = take(pool, ids(*range(1000, 1032)))
    assert len(whole.blocks) == 8
