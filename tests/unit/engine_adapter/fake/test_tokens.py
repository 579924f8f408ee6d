from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_adapter.fake.tokens import MIXED, WORDS, Prompt, Vocabulary, decode, piece_id


def test_a_token_is_four_bytes_of_utf8() -> None:
    prompt = Prompt.from_text("abcdefg")
    assert prompt.count == 2
    assert prompt.ids() == (int.from_bytes(b"abcd", "big"), int.from_bytes(b"efg\0", "big"))


@given(st.text().filter(lambda text: "\0" not in text))
def test_ids_decode_to_the_text(text: str) -> None:
    prompt = Prompt.from_text(text)
    assert decode(prompt.ids()) == text
    assert prompt.text() == text
    assert prompt.count == len(prompt.ids()) == -(-len(text.encode()) // 4)


@given(st.text(), st.text())
def test_a_longer_text_keeps_the_whole_tokens_of_its_prefix(start: str, rest: str) -> None:
    whole = len(start.encode()) // 4
    assert Prompt.from_text(start + rest).ids()[:whole] == Prompt.from_text(start).ids()[:whole]


def test_token_prompts_and_text_prompts_agree() -> None:
    text = Prompt.from_text("the fox ran out ")
    assert Prompt.from_ids(text.ids()).text() == text.text()
    assert Prompt.from_ids(text.ids()).ids() == text.ids()


def test_a_prompt_followed_by_an_answer_has_the_tokens_of_both() -> None:
    pieces = ["fox ", "ran "]
    for prompt in (Prompt.from_text("abcde"), Prompt.from_ids([1, 2])):
        assert prompt.followed_by(pieces).ids() == prompt.ids() + tuple(map(piece_id, pieces))


@pytest.mark.parametrize("vocabulary", [WORDS, MIXED])
def test_every_piece_is_one_token(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.pieces) == 256
    assert all(Prompt.from_text(piece).count == 1 for piece in vocabulary.pieces)


def test_a_longer_draw_begins_with_a_shorter_one() -> None:
    assert WORDS.draw(b"key", 50)[:20] == WORDS.draw(b"key", 20)
    assert WORDS.draw(b"key", 20) != WORDS.draw(b"other", 20)


def test_a_vocabulary_of_the_wrong_size_or_width_is_refused() -> None:
    with pytest.raises(ValueError, match="256, 128"):
        Vocabulary(("abcd", "efgh", "ijkl"))
    with pytest.raises(ValueError, match="bytes of UTF-8"):
        Vocabulary(("abc",))
