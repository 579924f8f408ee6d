from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from engine_adapter.fake.answers import Limits, answer_key, cut, fixed_answer, json_answer, text_answer
from engine_adapter.fake.json_instance import SchemaError, instance_of
from engine_adapter.fake.tokens import MIXED, WORDS, Prompt


def test_an_answer_ends_by_itself_or_at_max_tokens() -> None:
    natural = text_answer(WORDS, b"k", Limits(natural=5, max_tokens=10))
    limited = text_answer(WORDS, b"k", Limits(natural=5, max_tokens=3))
    forced = text_answer(WORDS, b"k", Limits(natural=5, max_tokens=9, ignore_eos=True))
    longer = text_answer(WORDS, b"k", Limits(natural=5, max_tokens=9, min_tokens=7))
    assert [(len(a.tokens), a.finish_reason) for a in (natural, limited, forced, longer)] == [
        (5, "stop"),
        (3, "length"),
        (9, "length"),
        (7, "stop"),
    ]


def test_the_text_has_as_many_tokens_as_the_answer() -> None:
    for vocabulary in (WORDS, MIXED):
        answer = text_answer(vocabulary, b"key", Limits(natural=80, max_tokens=99))
        assert Prompt.from_text(answer.text).ids() == tuple(answer.token_ids())


def test_prompt_seed_and_choice_each_change_the_words() -> None:
    a, b = Prompt.from_text("one"), Prompt.from_text("two")
    keys = {answer_key(a, 0, 0), answer_key(b, 0, 0), answer_key(a, 1, 0), answer_key(a, 0, 1)}
    assert len(keys) == 4
    assert answer_key(a, 0, 0) == answer_key(Prompt.from_text("one"), 0, 0)


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_across_pieces_cuts_text_and_tokens(include: bool) -> None:
    full = text_answer(WORDS, b"k", Limits(natural=20, max_tokens=20))
    stop = full.text[10:18]
    limits = Limits(natural=20, max_tokens=20, stop=("never", stop), include_stop=include)
    answer = text_answer(WORDS, b"k", limits)
    end = full.text.index(stop)
    assert answer.text == full.text[: end + len(stop) if include else end]
    assert (answer.finish_reason, answer.stop_reason) == ("stop", stop)
    assert len(answer.tokens) == -(-(end + len(stop)) // 4)
    assert len(answer.deltas) == len(answer.tokens)


def test_cutting_keeps_characters_whole() -> None:
    text = "aé日😀b" * 7 + "xyz"
    pieces = list(cut(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode()) <= 4 for piece in pieces)


def test_a_fixed_answer_is_cut_at_max_tokens_only() -> None:
    limits = Limits(natural=1, max_tokens=3)
    assert fixed_answer("0123456789", limits).finish_reason == "stop"
    cut_off = fixed_answer("0123456789abcd", limits)
    assert (cut_off.text, cut_off.finish_reason) == ("0123456789ab", "length")


SCHEMAS: list[tuple[Any, Any]] = [
    ({"type": "integer"}, 1),
    ({"type": "integer", "minimum": 7}, 7),
    ({"type": "number", "exclusiveMinimum": 2, "maximum": 3}, 2.5),
    ({"type": "integer", "multipleOf": 5, "minimum": 11}, 15),
    ({"enum": ["red", "blue"]}, "red"),
    ({"const": {"a": 1}}, {"a": 1}),
    ({"type": ["null", "string"]}, None),
    ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
    ({"type": "array", "items": {"type": "boolean"}, "minItems": 3}, [True, True, True]),
    ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, [1]),
    ({"type": "string", "format": "date"}, "2026-01-01"),
    ({"type": "string", "maxLength": 2}, "wo"),
    ({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"const": 4}}}, {"a": 4}),
    ({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}, {"a": 1, "b": 2}),
    ({"type": "object", "required": ["free"]}, {"free": "word"}),
]


@pytest.mark.parametrize(("schema", "expected"), SCHEMAS)
def test_an_instance_fits_its_schema(schema: Any, expected: Any) -> None:
    assert instance_of(schema, itertools.repeat("word")) == expected


def test_a_recursive_schema_ends() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name", "children"],
    }
    instance = instance_of(schema, itertools.repeat("word"))
    assert instance["children"][0]["name"] == "word"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string", "pattern": "^a"}, "pattern"),
        ({"$ref": "#/nowhere"}, "leads nowhere"),
        ({"$ref": "https://example.com/s"}, "into the document"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no number between"),
        ({"type": "tuple"}, "unknown type"),
    ],
)
def test_a_schema_beyond_the_generator_is_named(schema: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        instance_of(schema, itertools.repeat("word"))


def test_a_json_answer_parses_and_is_deterministic() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}}
    limits = Limits(natural=1, max_tokens=100)
    first, second = (json_answer(schema, WORDS, b"key", limits) for _ in range(2))
    assert first.text == second.text
    assert set(orjson.loads(first.text)) == {"city", "n"}
