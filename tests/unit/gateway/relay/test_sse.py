from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamFailed
from gateway.relay.framing import chunk
from gateway.relay.sse import (
    PING,
    EventSplitter,
    EventTooLong,
    Usage,
    error_event,
    event_end,
    has_end,
    has_error,
)

FAMILIES = ("chat", "completions", "responses", "messages")
ENDS = {
    "chat": b"data: [DONE]\n\n",
    "completions": b"data: [DONE]\n\n",
    "responses": b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    "messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}
LINE_ENDS = {"LF": b"\n", "CRLF": b"\r\n"}


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_every_cut_gives_whole_events(line_end: bytes) -> None:
    blocks = [
        b"data: a\n\n",
        b"event: x\ndata: b\n\n",
        b": comment\n\n",
        b"data: c\ndata: d\n\n",
        b"data:\n\n",
    ]
    wire = b"".join(blocks).replace(b"\n", line_end)
    for first in range(len(wire) + 1):
        for second in range(first, len(wire) + 1):
            splitter = EventSplitter(1000)
            pieces = [splitter.feed(p) for p in (wire[:first], wire[first:second], wire[second:])]
            assert b"".join(pieces) == wire
            assert all(not p or p.endswith(line_end * 2) for p in pieces)
            assert splitter.held == b""


lines = st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))
blocks = st.lists(lines.filter(bool), min_size=1, max_size=3).map(b"\n".join)


@given(st.lists(blocks, max_size=6), st.sampled_from([b"\n", b"\r\n"]), st.binary(max_size=9), st.data())
def test_any_stream_at_any_cut(
    events: list[bytes], line_end: bytes, unfinished: bytes, data: st.DataObject
) -> None:
    unfinished = unfinished.replace(b"\n", b"").replace(b"\r", b"")
    whole = b"".join((e + b"\n\n").replace(b"\n", line_end) for e in events)
    wire = whole + unfinished
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    splitter = EventSplitter(10_000)
    got = b"".join(splitter.feed(wire[a:b]) for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True))
    assert got == whole
    assert splitter.held == unfinished


@given(st.binary(max_size=60).map(lambda b: b.replace(b"\x00", b"\n").replace(b"\x01", b"\r")), st.data())
def test_nothing_is_lost_or_reordered_whatever_the_bytes(wire: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(wire)))
    splitter = EventSplitter(10_000)
    assert splitter.feed(wire[:cut]) + splitter.feed(wire[cut:]) + splitter.held == wire


def test_an_endless_event_is_refused() -> None:
    splitter = EventSplitter(100)
    assert splitter.feed(b"data: x\n\n" + b"y" * 100) == b"data: x\n\n"
    with pytest.raises(EventTooLong, match="100 bytes"):
        splitter.feed(b"y")


def test_event_end_looks_at_blank_lines_only() -> None:
    assert event_end(b"") == event_end(b"data: x\n") == event_end(b"data: x\r\n\r") == 0
    assert event_end(b"data: x\n\ndata") == event_end(b"data: x\r\n\r\n") - 2 == 9
    assert event_end(b"a\n\nb\r\n\r\nc\n\nd") == 11


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_the_end_of_each_family(family: str, line_end: bytes) -> None:
    end = ENDS[family].replace(b"\n", line_end)
    event = b'data: {"x":1}\n\n'.replace(b"\n", line_end)
    assert has_end(family, end)
    assert has_end(family, chunk(event) + chunk(end))
    assert has_end(family, chunk(event + end))
    assert not has_end(family, chunk(event))
    for cut in range(len(end.split(line_end)[0])):
        assert not has_end(family, event + end[:cut])


def test_an_end_of_one_family_is_none_of_another() -> None:
    for family in FAMILIES:
        for other in FAMILIES:
            assert has_end(family, ENDS[other]) == (ENDS[family] == ENDS[other])


def test_the_finish_of_one_choice_does_not_end_a_stream() -> None:
    tail = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":null}]}\n\n'
    assert not has_end("chat", tail)


def test_answers_without_a_marker_need_none() -> None:
    assert has_end("pooling", b"")
    assert has_end("tokens", b"data: x\n\n")


IMPOSTORS = [
    "data: [DONE]",
    "\ndata: [DONE]\n",
    "\n\ndata: [DONE]\n\n",
    "\r\n\r\ndata: [DONE]\r\n\r\n",
    "event: message_stop",
    "\nevent: message_stop\ndata: {}\n\n",
    "event: response.completed\n",
    '"finish_reason":"stop"',
    '","finish_reason":"stop","x":"',
    '{"error":{"message":"x"}}',
    '\n\ndata: {"error":{}}\n\n',
    "event: error\n",
    "0\r\n\r\n",
    '"usage":{"prompt_tokens":999,"completion_tokens":999}',
    '\\"usage\\":{\\"prompt_tokens\\":999}',
    "\\",
    '\\"',
    "\u2028data: [DONE]\u2028",
    "\x85event: error\x85",
    "\x0bdata: [DONE]\x0c",
]


def _events_saying(text: str) -> list[bytes]:
    """What servers send when a model writes `text`, by each family and with each habit of JSON writers."""
    documents = [
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
        {"choices": [{"index": 0, "text": text, "logprobs": {"tokens": [text]}, "finish_reason": None}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": json.dumps({text: text})}}]}}]},
        {"type": "response.output_text.delta", "delta": text, "sequence_number": 3},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}},
        {text: text},
    ]
    return [
        b"event: x\ndata: " + dumped + b"\n\n"
        for document in documents
        for dumped in (
            orjson.dumps(document),
            json.dumps(document).encode(),
            json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(),
        )
    ]


@pytest.mark.parametrize("text", IMPOSTORS)
def test_no_model_can_write_an_end_an_error_or_a_usage(text: str) -> None:
    for event in _events_saying(text):
        for tail in (event, chunk(event), event[: len(event) // 2]):
            assert not any(has_end(family, tail) for family in FAMILIES)
            assert not has_error(tail)
            usage = Usage()
            usage.read(tail)
            assert usage == Usage()


@given(st.lists(st.sampled_from(IMPOSTORS) | st.text(max_size=5), max_size=4).map("".join), st.data())
def test_no_mixture_of_them_either(text: str, data: st.DataObject) -> None:
    event = data.draw(st.sampled_from(_events_saying(text)[:-3]))
    assert not any(has_end(family, chunk(event)) for family in FAMILIES)


def test_errors_of_engines_are_ends_with_a_reason() -> None:
    openai = b'data: {"error":{"message":"x","type":"InternalServerError","param":null,"code":500}}\n\n'
    assert has_error(openai + b"data: [DONE]\n\n")
    assert has_end("chat", openai)
    assert has_end("messages", b'event: error\ndata: {"type":"error","error":{}}\n\n')
    assert has_error(b'event: response.failed\ndata: {"type":"response.failed"}\n\n')
    assert not has_error(b"data: [DONE]\n\n")


USAGES = {
    "chat": (
        b'data: {"choices":[],"usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5,'
        b'"prompt_tokens_details":{"cached_tokens":4}}}\n\n',
        Usage(7, 4, 5),
    ),
    "responses": (
        b'data: {"response":{"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":4},'
        b'"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":12}}}\n\n',
        Usage(7, 4, 5),
    ),
    "messages": (
        b'data: {"type":"message_delta","usage":{"input_tokens":7,"output_tokens":5,'
        b'"cache_read_input_tokens":4}}\n\n',
        Usage(7, 4, 5),
    ),
    "with blanks": (b'{"usage": {"prompt_tokens": 7, "completion_tokens": 5}}', Usage(7, 0, 5)),
    "null": (b'{"usage":null}', Usage()),
    "of nothing": (b"", Usage()),
    "no details": (b'"usage":{"prompt_tokens":7,"prompt_tokens_details":null}', Usage(7, 0, 0)),
    "not a count": (
        b'"usage":{"prompt_tokens":-7,"completion_tokens":1e3,"cached_tokens":"9"}',
        Usage(0, 0, 1),
    ),
}


@pytest.mark.parametrize(("data", "expected"), USAGES.values(), ids=USAGES)
def test_usage_is_read(data: bytes, expected: Usage) -> None:
    usage = Usage()
    usage.read(data)
    assert usage == expected


def test_usage_of_several_events_is_the_largest() -> None:
    usage = Usage()
    usage.read(b'data: {"message":{"usage":{"input_tokens":7,"output_tokens":0}}}\n\n')
    usage.read(b'data: {"usage":{"output_tokens":5}}\n\n')
    assert usage == Usage(7, 0, 5)


def test_only_the_last_usage_of_a_piece_counts() -> None:
    usage = Usage()
    usage.read(b'data: {"usage":{"prompt_tokens":7,"completion_tokens":1}}\n\n' * 3 + b"data: [DONE]\n\n")
    assert usage == Usage(7, 0, 1)


@given(st.binary(max_size=200))
def test_usage_never_fails(data: bytes) -> None:
    usage = Usage()
    usage.read(b'"usage":{' + data)
    assert min(usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) >= 0


def test_a_ping_is_a_comment_that_no_event_ends() -> None:
    assert PING.startswith(b":")
    assert PING.endswith(b"\n")
    assert b"\n\n" not in PING


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_event_is_no_end(family: str) -> None:
    event = error_event(family, UpstreamFailed("it\nbroke"), b"")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    assert b"[DONE]" not in event
    assert b"finish_reason" not in event
    assert has_error(event)
    data = orjson.loads(event.rpartition(b"data: ")[2])
    assert (data["error"]["message"]) == "it\nbroke"


def test_an_error_in_responses_goes_on_counting() -> None:
    last = b'data: {"type":"response.output_text.delta","sequence_number":41,"delta":"x"}\n\n'
    event = error_event("responses", UpstreamFailed("x"), last)
    data = orjson.loads(event.rpartition(b"data: ")[2])
    assert (data["type"], data["sequence_number"], data["code"]) == ("error", 42, "worker_failed")
