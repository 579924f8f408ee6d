"""The bench scores what it should, through both doors, and its control removes the evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence

import httpx
import pytest

from engine_adapter.demo.answerers import OpenAIAnswerer
from engine_adapter.demo.bench import cases, known_tasks, measure, table
from engine_adapter.demo.chat import Segment


def _count(text: str) -> int:
    return len(text.split())


def test_documents_fit_the_wanted_length() -> None:
    for case in cases("one_hop", 300, 10, _count):
        size = sum(_count(document.text) for document in case.documents)
        assert 0.7 * 300 <= size <= 300


def test_a_perfect_reader_scores_full_and_the_control_zero() -> None:
    made = list(cases("one_hop", 150, 12, _count))
    answers = {case.question.text: case.question for case in made}

    def reader(segments: Sequence[Segment]) -> str:
        question = answers[segments[-1].text]
        text = " ".join(s.text for s in segments if s.role == "document")
        subject = question.evidence[0][1].removeprefix("the ")
        known = subject in text and question.expected in text
        return question.answer if known else "The text does not say that."

    score = measure(made, reader, control=12)
    assert score.accuracy == 1.0
    assert score.control_of == 12
    assert score.control_right < 6
    assert score.record()["low"] == pytest.approx(0.7575, abs=1e-3)
    assert "| one_hop | 150 | 12/12 | 100.0% |" in table([score])


def test_control_prompt_lacks_the_evidence() -> None:
    for case in cases("two_hop", 200, 8, _count):
        pairs = set(case.question.evidence)
        for document in case.stripped:
            assert not any((f.relation, f.subject) in pairs for s in document.sentences for f in s.facts)
        assert case.prompt() != case.prompt(control=True)


def test_follow_ups_carry_their_first_turn() -> None:
    case = next(cases("follow_up", 200, 1, _count))
    roles = [segment.role for segment in case.prompt()]
    assert roles[-3:] == ["user", "assistant", "user"]


def test_json_validity_is_counted() -> None:
    made = list(cases("json", 200, 4, _count))
    replies = iter(["{}", "{", "[1]", "no"])
    score = measure(made, lambda _: next(replies))
    assert score.record()["valid"] == 0.5
    assert score.right == 0


def test_unknown_tasks_are_named() -> None:
    assert known_tasks(["json"]) == ("json",)
    assert "one_hop" in known_tasks([])
    with pytest.raises(ValueError, match="unknown tasks riddle; known are one_hop"):
        known_tasks(["riddle"])


def test_asking_through_the_openai_api(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"choices": [{"message": {"content": "Ada lives in Dunham."}}]})

    plain = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: plain(transport=httpx.MockTransport(serve), **given))
    with OpenAIAnswerer("http://127.0.0.1:1/v1", "base", key="secret") as ask:
        reply = ask([Segment("document", "Ada lives in Dunham."), Segment("user", "Where does Ada live?")])
    assert reply == "Ada lives in Dunham."
    assert seen[0].url.path == "/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer secret"
    body = json.loads(seen[0].content)
    assert body["documents"] == [{"text": "Ada lives in Dunham."}]
    assert body["messages"] == [{"role": "user", "content": "Where does Ada live?"}]
    assert body["temperature"] == 0


@pytest.mark.parametrize(
    ("asked", "served", "name"),
    [("base", "base", "base"), ("base", "sluice-base", "sluice-base"), ("/models/clerk", "clerk", "clerk")],
)
def test_the_server_may_have_the_model_under_another_name(
    monkeypatch: pytest.MonkeyPatch, asked: str, served: str, name: str
) -> None:
    plain = httpx.Client
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, json={"data": [{"id": "x"}, {"id": served}]})
    )
    monkeypatch.setattr(httpx, "Client", lambda **given: plain(transport=transport, **given))
    with OpenAIAnswerer("http://127.0.0.1:1", asked) as ask:
        ask.find_model()
        assert ask.model == name
    with (
        OpenAIAnswerer("http://127.0.0.1:1", "oracle") as ask,
        pytest.raises(LookupError, match=f"no model 'oracle'; it has x, {served}"),
    ):
        ask.find_model()
