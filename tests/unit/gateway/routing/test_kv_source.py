"""One engine's events against what the router makes of them, without a network."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import fingerprint
from gateway.routing.fleet import Fleet
from gateway.routing.kv_blocks import EngineBlocks, chain
from gateway.routing.kv_sequence import EventSequence, Verdict
from gateway.routing.kv_source import EventSource
from gateway.routing.kv_wire import BlockRemoved, BlockStored, KVEventError, decode_batch, decode_message
from gateway.routing.routed import RoutedRequest
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings
from gateway.routing.tiers import DEVICE, FILE, HOST

BLOCK = 16
MakeFleet = Callable[..., Fleet]


def payload(*events: dict[str, object], ts: float = 1.0) -> bytes:
    return msgspec.msgpack.encode([ts, list(events), 0])


def stored(
    hashes: list[int], parent: int | None = None, size: int = BLOCK, **more: object
) -> dict[str, object]:
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": [7] * size * len(hashes),
        "block_size": size,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **more,
    }


def removed(hashes: list[int], medium: str = "GPU") -> dict[str, object]:
    return {"type": "BlockRemoved", "block_hashes": hashes, "medium": medium}


def ask(text: str, size: int) -> RouteRequest:
    return RouteRequest("m", b"", (text.encode() * (size // len(text) + 1))[:size])


class Rig:
    """One worker, its source, and time that the test moves."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.router = Router(fleet, RoutingSettings(bytes_per_token=4.0))
        state = self.router.state("a")
        assert state is not None
        self.state = state
        self.source = EventSource(state, "tcp://127.0.0.1:1", 10_000)
        self.source.caught_up()
        self.number = 0
        self.now = 100.0

    def publish(self, *events: dict[str, object], ts: float = 1.0) -> Verdict:
        verdict = self.source.live(self.number, payload(*events, ts=ts))
        self.number += 1
        if verdict is Verdict.APPLY:
            for part in self.source.apply(payload(*events, ts=ts)):
                self.source.apply_slice(part, self.now)
        return verdict

    def serve(
        self, request: RouteRequest, events: list[dict[str, object]], cached_tokens: int = 0
    ) -> RoutedRequest:
        """The request is prefilled, during which the engine publishes `events`; four bytes are a token."""
        routed = self.router.assign(request, self.now)
        self.now += 0.1
        if events:
            self.publish(*events)
        routed.first_byte(self.now)
        self.now += 1.0
        routed.finish(self.now, "ok", len(request.body) // 4, cached_tokens, 10)
        self.now += 10.0
        return routed

    def hit(self, request: RouteRequest) -> int:
        """Bytes of the request that the mirror takes to be cached."""
        prompt = fingerprint("m", b"", request.body)
        return prompt.covered(self.state.cache.depth(prompt))


@pytest.fixture
def rig(make_fleet: MakeFleet) -> Rig:
    return Rig(make_fleet("a"))


def test_a_prompt_is_joined_to_the_blocks_it_became(rig: Rig) -> None:
    """2,048 bytes are 512 tokens are 32 blocks, two chunks of text to every eight blocks."""
    blocks = list(range(1, 33))
    rig.serve(ask("x", 2_048), [stored(blocks)])
    assert rig.source.report().joined == 1
    assert rig.source.report().linked_chunks == 8
    rig.publish(removed(blocks[16:]))
    assert rig.hit(ask("x", 2_048)) == 1_024
    rig.publish(removed(blocks[:16]))
    assert rig.hit(ask("x", 2_048)) == 0


def test_what_comes_back_is_cached_again(rig: Rig) -> None:
    """By somebody else's request, say, through another gateway."""
    blocks = list(range(1, 33))
    rig.serve(ask("x", 2_048), [stored(blocks)])
    rig.publish(removed(blocks))
    rig.publish(stored(blocks[:16]))
    assert rig.hit(ask("x", 2_048)) == 1_024


def test_the_next_turn_continues_the_chain(rig: Rig) -> None:
    rig.serve(ask("x", 2_048), [stored(list(range(1, 33)))])
    rig.serve(ask("x", 3_072), [stored(list(range(33, 49)), parent=32)], cached_tokens=512)
    assert rig.source.report().joined == 2
    rig.publish(removed([48]))
    assert rig.hit(ask("x", 3_072)) == 2_816


def test_of_two_chains_of_one_length_the_one_that_continues_the_text_is_taken(rig: Rig) -> None:
    rig.serve(ask("x", 2_048), [stored(list(range(1, 33)))])
    rig.serve(
        ask("x", 3_072),
        [stored(list(range(100, 148))), stored(list(range(33, 49)), parent=32)],
    )
    assert rig.source.report().joined == 2
    rig.publish(removed(list(range(100, 148))))
    assert rig.hit(ask("x", 3_072)) == 3_072


def test_two_chains_that_cannot_be_told_apart_are_left_alone(rig: Rig) -> None:
    rig.serve(ask("x", 2_048), [stored(list(range(1, 33))), stored(list(range(101, 133)))])
    assert (rig.source.report().joined, rig.source.report().ambiguous) == (0, 1)


def test_events_that_come_after_the_answer_are_still_joined(rig: Rig) -> None:
    routed = rig.router.assign(ask("x", 2_048), rig.now)
    routed.first_byte(rig.now)
    routed.finish(rig.now, "ok", 512, 0, 1)
    rig.now += 0.2
    rig.publish(stored(list(range(1, 33))))
    assert rig.source.report().joined == 0
    rig.source.look_again(rig.now + 0.4)
    assert rig.source.report().joined == 1


def test_requests_of_one_length_side_by_side_are_not_confused(rig: Rig) -> None:
    """The first one's event is here when the second one ends, its own is not yet."""
    first, second = (rig.router.assign(ask(text, 2_048), rig.now) for text in "xy")
    for routed in (first, second):
        routed.first_byte(rig.now + 0.1)
        routed.finish(rig.now + 0.1, "ok", 512, 0, 1)
    rig.publish(stored(list(range(1, 33))))
    rig.now += 0.3
    rig.publish(stored(list(range(101, 133))))
    rig.source.look_again(rig.now + 0.5)
    assert (rig.source.report().joined, rig.source.report().ambiguous) == (0, 2)


def test_exact_depth_is_the_engines_word(rig: Rig) -> None:
    rig.serve(ask("x", 2_048), [stored(list(range(1, 33)))])
    prompt = fingerprint("m", b"", ask("x", 2_048).body)
    assert rig.state.confirmed is not None
    assert rig.state.confirmed.depth(prompt) == 8
    rig.publish(removed([32]))
    assert rig.state.confirmed.depth(prompt) == 7


def test_blocks_in_a_slower_tier_are_cheaper_than_none(rig: Rig) -> None:
    blocks = list(range(1, 33))
    rig.serve(ask("x", 2_048), [stored(blocks)])
    rig.publish(stored(blocks, medium="CPU"))
    rig.publish(removed(blocks))
    assert rig.hit(ask("x", 2_048)) == 0
    offloaded = rig.router.assign(ask("x", 2_048), rig.now)
    offloaded.finish(rig.now, "aborted")
    unknown = rig.router.assign(ask("y", 2_048), rig.now)
    assert offloaded.estimate < 0.6 * unknown.estimate
    rig.publish(removed(blocks, medium="CPU"))
    assert rig.router.assign(ask("x", 2_048), rig.now + 900).estimate > offloaded.estimate


def test_a_cleared_cache_is_an_empty_mirror(rig: Rig) -> None:
    rig.serve(ask("x", 2_048), [stored(list(range(1, 33)))])
    rig.publish({"type": "AllBlocksCleared"})
    assert rig.hit(ask("x", 2_048)) == 0
    assert rig.source.report().blocks == 0


def test_an_engine_that_counts_from_the_start_again_is_a_new_one(rig: Rig) -> None:
    rig.serve(ask("x", 2_048), [stored(list(range(1, 33)))])
    rig.publish(stored([50]))
    rig.number = 0
    assert rig.publish(stored([60]), ts=2.0) is Verdict.APPLY
    assert rig.source.report().restarts == 1
    assert rig.source.report().blocks == 1
    assert rig.hit(ask("x", 2_048)) == 0


def test_a_batch_that_a_replay_brought_already_is_not_applied_again(rig: Rig) -> None:
    rig.publish(stored([1]), ts=5.0)
    rig.publish(stored([2]), ts=6.0)
    rig.number = 1
    assert rig.publish(stored([2]), ts=6.0) is Verdict.DUPLICATE
    assert rig.source.report().restarts == 0


def test_lost_events_end_exactness_until_a_fresh_start(rig: Rig) -> None:
    rig.serve(ask("x", 2_048), [stored(list(range(1, 33)))])
    rig.number += 3
    assert rig.publish(stored([90])) is Verdict.GAP
    rig.source.give_up_before(rig.number - 1)
    report = rig.source.report()
    assert (report.status, report.lost_batches, report.gaps) == ("degraded", 3, 1)
    assert "3 batches" in report.message
    assert rig.state.confirmed is None
    rig.number -= 1
    rig.publish({"type": "AllBlocksCleared"})
    assert rig.source.report().status == "live"
    assert rig.state.confirmed is not None


def test_another_block_size_is_refused_in_words(rig: Rig) -> None:
    rig.publish(stored([1]))
    with pytest.raises(KVEventError, match="32 tokens after 16"):
        rig.publish(stored([2], size=32))


def test_more_blocks_than_allowed_are_not_kept(make_fleet: MakeFleet) -> None:
    rig = Rig(make_fleet("a"))
    rig.source = EventSource(rig.state, "tcp://127.0.0.1:1", 10)
    rig.source.caught_up()
    rig.publish(stored(list(range(20))))
    report = rig.source.report()
    assert (report.status, report.blocks) == ("degraded", 0)
    assert "kv_max_blocks" in report.message


def test_a_large_batch_is_applied_in_slices_that_keep_the_chain(rig: Rig) -> None:
    rig.serve(ask("x", 40_960), [stored(list(range(1, 641)))])
    assert len(rig.source.apply(payload(stored(list(range(1, 641)))))) == 5
    assert len(rig.source.apply(payload(removed(list(range(1, 641)))))) == 5
    assert rig.source.report().joined == 1


def test_sequence_numbers() -> None:
    sequence = EventSequence()
    assert [sequence.offer(n) for n in (0, 1, 1, 3)] == [
        Verdict.APPLY,
        Verdict.APPLY,
        Verdict.DUPLICATE,
        Verdict.GAP,
    ]
    assert sequence.skip_to(3) == 1
    assert sequence.offer(3) is Verdict.APPLY
    assert sequence.skip_to(2) == 0


def test_tiers_and_groups() -> None:
    blocks = EngineBlocks(100)
    blocks.store(BlockStored([b"a"], BLOCK, None, "GPU"))
    blocks.store(BlockStored([b"a"], BLOCK, None, "CPU"))
    blocks.store(BlockStored([b"b"], BLOCK, b"a", "GPU"))
    # vLLM's own offloading: neither size nor parent.
    blocks.store(BlockStored([b"b"], 0, None, "STORAGE"))
    blocks.remove(BlockRemoved([b"b"], "GPU"))
    blocks.store(BlockStored([b"c"], BLOCK, None, "GPU", group_idx=1))
    a, b = blocks.get(b"a"), blocks.get(b"b")
    assert a is not None
    assert b is not None
    assert (a.tiers, b.tiers, blocks.get(b"c")) == (DEVICE | HOST, FILE, None)
    assert [block.hash for block in chain(b)] == [b"b", b"a"]
    assert blocks.remove(BlockRemoved([b"a", b"nobody"], "GPU"))[0].tiers == HOST
    blocks.remove(BlockRemoved([b"a"], "CPU"))
    assert blocks.get(b"a") is None


def test_a_block_whose_beginning_was_missed_has_no_known_depth() -> None:
    blocks = EngineBlocks(100)
    orphan = blocks.store(BlockStored([5, 6], BLOCK, 4))
    assert [b.number for b in orphan] == [None, None]
    blocks.store(BlockStored([1, 2, 3, 4], BLOCK, None))
    found = blocks.store(BlockStored([5, 6], BLOCK, 4))
    assert [b.number for b in found] == [5, 6]


@pytest.mark.parametrize(
    "message", [b"", b"\x93", msgspec.msgpack.encode({"a": 1}), payload({"type": "Other"})]
)
def test_what_is_no_event_batch_is_refused(message: bytes) -> None:
    with pytest.raises(KVEventError, match="not a KV event batch"):
        decode_batch(message)


def test_messages_have_a_sequence_number_of_eight_bytes() -> None:
    assert decode_message([b"kv", (7).to_bytes(8, "big"), b"p"]) == (7, b"p")
    assert decode_message([b"", b"kv", (7).to_bytes(8, "big"), b"p"]) == (7, b"p")
    with pytest.raises(KVEventError, match="8-byte"):
        decode_message([b"kv", b"7", b"p"])


def test_blocks_that_went_before_they_were_joined_are_not_taken_to_be_there(rig: Rig) -> None:
    routed = rig.router.assign(ask("x", 2_048), rig.now)
    rig.publish(stored(list(range(1, 33))))
    routed.first_byte(rig.now)
    routed.finish(rig.now, "ok", 512, 0, 1)
    rig.publish(removed(list(range(17, 33))))
    rig.source.look_again(rig.now + 0.6)
    assert rig.source.report().joined == 1
    assert rig.hit(ask("x", 2_048)) == 1_024
