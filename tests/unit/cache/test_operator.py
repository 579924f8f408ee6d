from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from cache.control import Command, CommandError, Outcome, read_command
from cache.keys import chunk_keys
from cache.operator import Operator
from tests.unit.cache.stores import LAYOUT, Bench, BenchNamespaces

TOKENS = list(range(4 * LAYOUT.block_tokens))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.store.close()


@pytest.fixture
def operator(bench: Bench) -> Operator:
    return Operator(bench.store, BenchNamespaces(bench.store))


def command(verb: str, select: dict[str, Any], **fields: Any) -> Command:
    return read_command(orjson.dumps({"verb": verb, "select": select, **fields}))


def test_lookup_says_how_much_of_a_prompt_is_kept_and_where(bench: Bench, operator: Operator) -> None:
    bench.save(bench.keys(3))
    kept = 3 * LAYOUT.block_tokens
    assert operator.carry_out(command("lookup", {"tokens": TOKENS})) == Outcome(4, 3, kept, {"memory": kept})
    assert operator.carry_out(command("lookup", {"tokens": TOKENS, "tenant": "other"})).done == 0
    assert operator.carry_out(command("lookup", {"tokens": TOKENS, "quality": "lossy:small"})).done == 0
    assert bench.store.stats().leases == 0


def test_chunks_of_an_adapter_are_chosen_by_its_name(bench: Bench, operator: Operator) -> None:
    digest = BenchNamespaces(bench.store).digest_of("", "exact", "tuned")
    tuned = chunk_keys(digest, TOKENS, LAYOUT.block_tokens)
    bench.save(tuned[:3])
    bench.save(bench.keys(2))
    assert operator.carry_out(command("lookup", {"tokens": TOKENS, "adapter": "tuned"})).done == 3
    assert operator.carry_out(command("lookup", {"tokens": TOKENS})).done == 2
    assert [chunk.adapter for chunk in operator.chunks(9, adapter="tuned")] == ["tuned"] * 3
    assert len(operator.chunks(9)) == 5
    pinned = operator.carry_out(command("pin", {"everything": True, "adapter": "tuned"}, owner="me"))
    assert pinned == Outcome(3, 3)
    cleared = operator.carry_out(command("clear", {"everything": True, "adapter": "tuned"}))
    assert (cleared.done, bench.ready(bench.keys(2))) == (3, 2)
    with pytest.raises(CommandError, match="no adapter other"):
        operator.carry_out(command("lookup", {"tokens": TOKENS, "adapter": "other"}))


def test_pinned_chunks_stay_until_their_owner_lets_go(bench: Bench, operator: Operator) -> None:
    bench.save(bench.keys(4))
    pinned = operator.carry_out(command("pin", {"tokens": TOKENS}, owner="me", seconds=60))
    assert pinned == Outcome(4, 4)
    bench.save(bench.keys(8, start=10_000))
    assert bench.ready(bench.keys(4)) == 4
    assert set(operator.chunks(100)[0].pins) <= {"me"}
    assert operator.carry_out(command("unpin", {"tokens": TOKENS}, owner="somebody else")).done == 0
    assert operator.carry_out(command("unpin", {"tokens": TOKENS}, owner="me")).done == 4
    bench.save(bench.keys(8, start=20_000))
    assert bench.ready(bench.keys(4)) == 0


def test_clearing_spares_other_tenants(bench: Bench, operator: Operator) -> None:
    bench.save(bench.keys(2, tenant="acme"))
    bench.save(bench.keys(3, tenant="other"))
    assert operator.carry_out(command("clear", {"everything": True, "tenant": "acme"})).done == 2
    assert [chunk.tenant for chunk in operator.chunks(100)] == ["other"] * 3
    assert operator.chunks(100, "acme") == []
    assert operator.carry_out(command("clear", {"everything": True})).done == 3
    assert operator.chunks(100) == []


def test_chunks_are_selected_by_the_keys_that_a_listing_shows(bench: Bench, operator: Operator) -> None:
    bench.save(bench.keys(3))
    shown = [chunk.key for chunk in operator.chunks(2)]
    assert len(shown) == 2
    assert operator.carry_out(command("clear", {"keys": shown})).done == 2
    assert len(operator.chunks(100)) == 1


@pytest.mark.parametrize(
    ("verb", "fields", "complaint"),
    [
        ("lookup", {"select": {"everything": True}}, "one prompt"),
        ("lookup", {"select": {}}, "select chunks by one of"),
        ("lookup", {"select": {"tokens": [1], "everything": True}}, "select chunks by one of"),
        ("lookup", {"select": {"tokens": [-1] * 16}}, "token ids"),
        ("pin", {"select": {"everything": True}}, "owner"),
        ("pin", {"select": {"everything": True}, "owner": "me", "seconds": 0}, "above 0"),
        ("clear", {"select": {"keys": ["abc"]}}, "96 hexadecimal digits"),
        ("clear", {"select": {"everything": True}, "colour": "red"}, "colour"),
        ("move", {"select": {"everything": True}, "source": "memory", "target": "tape"}, "tape"),
        (
            "move",
            {"select": {"everything": True}, "source": "memory", "target": "file", "seconds": 1e9},
            "most",
        ),
        ("compress", {"select": {"everything": True}, "tier": "tape"}, "tape"),
        ("fold", {"select": {"everything": True}}, "fold"),
    ],
)
def test_wrong_commands_are_refused_in_words(
    operator: Operator, verb: str, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        operator.carry_out(read_command(orjson.dumps({"verb": verb, **fields})))
