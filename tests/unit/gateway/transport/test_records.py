from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.transport.records import END, MAX_FORMS, Kind, Record, Template, compact, expand, form_of

STEADY = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
"""The same examples in every run, however slow the machine."""
RECORDINGS = Path(__file__).parents[3] / "contract" / "relay" / "recordings" / "vllm-0.32.0"
HEAD = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'


def chunk(text: str, choice: int = 0, key: str = "content") -> bytes:
    literal = json.dumps(text, ensure_ascii=False)
    return f'{HEAD}[{{"index":{choice},"delta":{{"{key}":{literal}}},"finish_reason":null}}]}}'.encode()


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("chat-stream*.http")), ids=lambda path: path.stem)
def test_what_vllm_streams_comes_back_byte_for_byte(path: Path) -> None:
    events = re.findall(rb"data: (.*)\n\n", path.read_bytes())
    template = Template()
    records = [compact(event, template) for event in events]
    assert [expand(record, template) for record in records] == events
    assert END not in records[:-1]


@STEADY
@given(st.lists(st.tuples(st.text(), st.integers(0, 70_000)), max_size=8))
def test_any_text_of_any_choice_comes_back(news: list[tuple[str, int]]) -> None:
    template = Template()
    for text, choice in news:
        raw = chunk(text, choice)
        assert expand(compact(raw, template), template) == raw


@STEADY
@given(st.lists((st.text(alphabet='{}[]":,\\ acdeinox01') | st.text()).map(str.encode), max_size=6))
def test_whatever_an_event_holds_comes_back(events: list[bytes]) -> None:
    template = Template()
    compact(chunk("a"), template)
    for event in events:
        assert expand(compact(event, template), template) == event


@STEADY
@given(st.binary())
def test_bytes_that_are_no_utf8_come_as_a_reader_of_event_streams_would_see_them(event: bytes) -> None:
    template = Template()
    assert expand(compact(event, template), template) == event.decode(errors="replace").encode()


def test_a_plain_chunk_is_its_text() -> None:
    template = Template()
    assert compact(chunk(" fox", 3), template) == Record(Kind.TEXT, b" fox", form=0, choice=3)


def test_a_new_key_makes_a_new_form_up_to_the_limit() -> None:
    template = Template(attempts=100)
    kinds = [compact(chunk("x", key=f"key{n}"), template).kind for n in range(MAX_FORMS + 2)]
    assert kinds == [Kind.TEXT] * MAX_FORMS + [Kind.JSON] * 2 or len(template.forms) < MAX_FORMS
    assert sum(map(len, template.forms)) <= 480


def test_a_long_form_is_not_learned() -> None:
    template = Template()
    assert compact(chunk("x").replace(b'"m"', b'"%b"' % (b"m" * 500)), template).kind is Kind.JSON
    assert not template.forms


def test_a_stream_without_plain_chunks_is_not_parsed_for_ever() -> None:
    template = Template()
    raw = chunk("x").replace(b'"finish_reason":null', b'"finish_reason":"stop"')
    for _ in range(50):
        compact(raw, template)
    assert template.attempts == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'{"choices":[]}',
        b'{"choices":[{"index":0,"delta":{}}]}',
        b'{"choices":[{"index":0,"delta":{"content":null}}]}',
        b'{"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[1]}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"total_tokens":3}}',
        b'{"choices":[{"delta":{"content":"a"},"index":0}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"arguments":"a"}}]}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}',
    ],
)
def test_other_chunks_have_no_form(raw: bytes) -> None:
    assert form_of(raw) is None


def test_an_unknown_form_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="form 2"):
        expand(Record(Kind.TEXT, b"x", form=2), Template())
