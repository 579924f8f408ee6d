from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.relay.request import FAMILIES, parse, with_model, with_salt


def test_what_the_gateway_reads() -> None:
    request = parse(
        b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"priority":-3,'
        b'"max_tokens":7,"temperature":0.5,"unknown":{"deep":[1,2,{"x":null}]}}'
    )
    assert (request.model, request.stream, request.priority, request.max_tokens) == ("m", True, 3, 7)
    assert request.prompt == b'[{"role":"user","content":"hi"}]'
    assert request.head == b""


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        (b'{"prompt":"hi"}', b'"hi"'),
        (b'{"prompt":[1,2,3]}', b"[1,2,3]"),
        (b'{"input":["a","b"]}', b'["a","b"]'),
        (b'{"messages":[],"prompt":"x"}', b"[]"),
        (b'{"prompt" : "h\\u0069" }', b'"h\\u0069"'),
        (b"{}", b""),
    ],
)
def test_the_prompt_is_a_slice_of_the_body(body: bytes, prompt: bytes) -> None:
    assert parse(body).prompt == prompt


def test_what_precedes_the_prompt_in_a_cache() -> None:
    request = parse(b'{"tools":[1],"cache_salt":"s","system":"be nice","messages":[]}')
    assert request.head == b'"s"\0[1]\0"be nice"'
    assert parse(b'{"instructions":"x","input":"y"}').head == b'"x"'
    assert parse(b'{"documents":["d"],"messages":[]}').head == b'["d"]'
    assert parse(b'{"chat_template_kwargs":{"enable_thinking":false},"chat_template":"t"}').head == (
        b'"t"\0{"enable_thinking":false}'
    )
    assert parse(b'{"messages":[],"temperature":1}').head == b""


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        (b'"max_tokens":5', 5),
        (b'"max_completion_tokens":5', 5),
        (b'"max_output_tokens":5', 5),
        (b'"max_tokens":5,"max_completion_tokens":9', 5),
        (b'"max_tokens":null', None),
        (b'"max_tokens":5.0', None),
        (b'"max_tokens":"5"', None),
        (b'"max_tokens":' + b"9" * 25, None),
        (b'"max_tokens":-0', 0),
    ],
)
def test_limits_that_are_no_integers_are_left_to_the_engine(field: bytes, limit: int | None) -> None:
    assert parse(b"{%b}" % field).max_tokens == limit


REFUSED = {
    "nothing": (b"", "invalid_json", None),
    "blank": (b"  ", "invalid_json", None),
    "text": (b"hello", "invalid_json", None),
    "cut off": (b'{"model":"m"', "invalid_json", None),
    "two documents": (b'{"model":"m"}{"model":"m"}', "invalid_json", None),
    "comment": (b'{"model":"m"} // hi', "invalid_json", None),
    "trailing comma": (b'{"model":"m",}', "invalid_json", None),
    "NaN": (b'{"model":"m","temperature":NaN}', "invalid_json", None),
    "Infinity": (b'{"model":"m","temperature":Infinity}', "invalid_json", None),
    "byte order mark": (b'\xef\xbb\xbf{"model":"m"}', "invalid_json", None),
    "UTF-16": ('{"model":"m"}'.encode("utf-16"), "invalid_json", None),
    "model is not UTF-8": (b'{"model":"\xff"}', "invalid_json", None),
    "lone surrogate in the model": (b'{"model":"\\ud800"}', "invalid_json", None),
    "lone surrogate elsewhere": (b'{"model":"m","x":"\\ud800"}', "invalid_json", None),
    "raw control character": (b'{"model":"a\nb"}', "invalid_json", None),
    "deep arrays": (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", None),
    "deep objects": (
        b'{"model":"m","messages":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        "invalid_json",
        None,
    ),
    "array": (b"[1]", "invalid_type", None),
    "null": (b"null", "invalid_type", None),
    "string": (b'"m"', "invalid_type", None),
    "model is a number": (b'{"model":1}', "invalid_type", "model"),
    "model is an array": (b'{"model":["m"]}', "invalid_type", "model"),
    "stream is text": (b'{"model":"m","stream":"true"}', "invalid_type", "stream"),
    "stream is a number": (b'{"model":"m","stream":1}', "invalid_type", "stream"),
}


@pytest.mark.parametrize(("body", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_told(body: bytes, code: str, param: str | None) -> None:
    for form in (body, bytearray(body)):
        with pytest.raises(InvalidRequest) as caught:
            parse(form)
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
        assert json.loads(caught.value.body())["error"]["message"]


def test_of_repeated_keys_the_last_counts_as_for_the_engine() -> None:
    body = b'{"model":"a","model":"b","stream":true,"stream":false}'
    request = parse(body)
    assert (request.model, request.stream) == ("b", False)
    assert json.loads(body)["model"] == "b"
    assert json.loads(with_model(body, "c")) == {"model": "c", "stream": False}


def test_null_is_absent() -> None:
    request = parse(b'{"model":null,"stream":null}')
    assert (request.model, request.stream) == (None, False)


def test_numbers_that_no_machine_holds_pass() -> None:
    body = b'{"model":"m","seed":' + b"9" * 5000 + b',"x":1e999}'
    assert parse(body).model == "m"
    assert b"9" * 5000 in with_model(body, "n")


def test_a_huge_prompt_is_cut_for_routing_only() -> None:
    body = b'{"model":"m","prompt":"' + b"x" * (8 << 20) + b'"}'
    assert len(parse(body).prompt) == 4 << 20
    assert len(parse(body.replace(b"prompt", b"documents")).head) == 4 << 20
    assert len(with_model(body, "m")) == len(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    st.dictionaries(plain_text.filter(lambda k: k != "model"), json_values, max_size=6),
    plain_text,
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:  ")]),
)
def test_with_model_keeps_every_other_value_byte_for_byte(
    fields: dict[str, object], model: str, ascii_only: bool, separators: tuple[str, str]
) -> None:
    raw = {k: json.dumps(v, ensure_ascii=ascii_only, separators=separators) for k, v in fields.items()}
    raw["model"] = '"before"'
    body = ("{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in raw.items()) + "}").encode()
    changed = with_model(body, model)
    values = msgspec.json.decode(changed, type=dict[str, msgspec.Raw])
    assert json.loads(bytes(values.pop("model"))) == model
    assert {k: bytes(v).decode().strip() for k, v in values.items()} == {
        k: v for k, v in raw.items() if k != "model"
    }


def test_with_model_adds_a_model_that_was_not_given() -> None:
    assert json.loads(with_model(b'{"prompt":"x"}', "m")) == {"prompt": "x", "model": "m"}


@pytest.mark.parametrize("key", [b"\xff", b"a\\ud800"])
def test_with_model_refuses_keys_that_are_no_text(key: bytes) -> None:
    with pytest.raises(InvalidRequest):
        with_model(b'{"model":"m","%b":1}' % key, "n")


@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_but_a_refusal_comes(body: bytes) -> None:
    for candidate in (body, b'{"model":"m","x":' + body, b'{"model":"m",%b}' % body):
        try:
            parse(candidate)
            changed = with_model(candidate, "n")
        except InvalidRequest:
            continue
        assert parse(changed).model == "n"


def test_every_family_is_one_that_errors_know() -> None:
    assert set(FAMILIES.values()) == {"chat", "completions", "responses", "messages", "pooling", "tokens"}
    assert all(path.startswith(b"/") and not path.endswith(b"/") for path in FAMILIES)


@pytest.mark.parametrize("body", [b"{ }", b"{}", b'{ "model": "m"}', b'\n{"model":"m"}', b'{"model":"m"}'])
def test_a_salt_keeps_the_body_json(body: bytes) -> None:
    salted = json.loads(with_salt(body, b'"s"', replaces=False))
    assert salted == {**json.loads(body), "cache_salt": "s"}
