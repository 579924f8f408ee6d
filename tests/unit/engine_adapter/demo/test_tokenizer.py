"""The shipped tokenizer: lossless, whole words, and the same prompt from the template as in training."""

from __future__ import annotations

import json

import jinja2
import pytest
from tokenizers import Tokenizer

from engine_adapter.demo.chat import CHAT_TEMPLATE, SPECIAL_TOKENS, Segment, as_request, render
from engine_adapter.demo.family import MODELS
from engine_adapter.demo.lexicon import distinct_words
from engine_adapter.demo.tokenizer import VOCAB_SIZE, load_tokenizer, train_tokenizer, twins


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(MODELS / "base")


@pytest.mark.parametrize(
    "text",
    [
        "Ada lives in Dunham.\n\n- the lamp: price 34",
        '{"town": "Dunham", "age": 34, "pet": null}',
        "Grüße, 東京 🚀\t tabs  and   spaces \n",
        "",
    ],
)
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_every_word_is_one_token_in_both_forms(tokenizer: Tokenizer) -> None:
    for word in distinct_words():
        assert len(tokenizer.encode(word, add_special_tokens=False).ids) == 1
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) == 1
    assert len(twins(tokenizer)) >= len(distinct_words())


def test_size_and_special_tokens(tokenizer: Tokenizer) -> None:
    assert 2000 <= tokenizer.get_vocab_size() <= VOCAB_SIZE
    for token in SPECIAL_TOKENS:
        assert len(tokenizer.encode(token, add_special_tokens=False).ids) == 1


def test_text_is_tokenized_alike_in_every_segment(tokenizer: Tokenizer) -> None:
    text = "Ada lives in Dunham."
    alone = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.encode(
        render([Segment("document", text), Segment("user", text)]), add_special_tokens=False
    )
    assert whole.ids.count(alone[0]) == 2
    start = whole.ids.index(alone[0])
    assert whole.ids[start : start + len(alone)] == alone


def test_training_the_tokenizer_is_deterministic() -> None:
    first, second = (train_tokenizer(seed=3, worlds=20).to_str() for _ in range(2))
    assert first == second


def _jinja(**values: object) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(CHAT_TEMPLATE).render(**values)


@pytest.mark.parametrize("generation_prompt", [True, False])
def test_template_renders_what_training_renders(generation_prompt: bool) -> None:
    segments = [
        Segment("system", "Be brief."),
        Segment("document", "Report\nAda lives in Dunham."),
        Segment("document", "Ben is a baker."),
        Segment("user", "Where does Ada live?"),
        Segment("assistant", "Ada lives in Dunham."),
        Segment("user", " And Ben? "),
    ]
    messages, documents = as_request(segments)
    rendered = _jinja(messages=messages, documents=documents, add_generation_prompt=generation_prompt)
    assert rendered == render(segments, generation_prompt=generation_prompt)


def test_template_takes_titles_tools_and_no_documents() -> None:
    user = {"role": "user", "content": "Hello"}
    assert _jinja(messages=[user]) == "<|bos|><|user|>Hello<|end|>"
    titled = _jinja(messages=[user], documents=[{"title": "Notes", "text": "Ada."}])
    assert "<|document|>Notes\nAda.<|end|><|user|>" in titled
    tool = _jinja(messages=[{"role": "tool", "content": "Ada."}, user])
    assert "<|document|>Ada.<|end|>" in tool


def test_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="role 'robot' is unknown"):
        Segment("robot", "x")


def test_shipped_template_is_the_one_in_the_code() -> None:
    for folder in MODELS.iterdir():
        assert (folder / "chat_template.jinja").read_text() == CHAT_TEMPLATE
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        assert settings["eos_token"] == "<|end|>"
