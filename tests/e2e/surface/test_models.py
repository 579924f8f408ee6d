"""Which models are served: list, retrieve, aliases."""

from __future__ import annotations

from typing import Any

import openai
import pytest


def test_the_list_names_the_model_and_its_alias(client: openai.OpenAI, model: str, alias: str) -> None:
    listed = {entry.id: entry for entry in client.models.list()}
    assert listed.keys() == {model, alias}
    assert (listed[alias].model_extra or {})["root"] == model
    assert (listed[model].model_extra or {})["max_model_len"] > 0


def test_retrieve(client: openai.OpenAI, model: str, alias: str) -> None:
    assert client.models.retrieve(model).id == model
    assert client.models.retrieve(alias).id == alias


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/no-such-model")
    assert caught.value.code == "model_not_found"
    assert "org/no-such-model" in caught.value.message


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_alias_is_answered_by_its_model(
    client: openai.OpenAI, model: str, alias: str, stream: bool
) -> None:
    messages: Any = [{"role": "user", "content": "Hello."}]
    answer: Any = client.chat.completions.create(model=alias, messages=messages, max_tokens=2, stream=stream)
    names = {chunk.model for chunk in answer} if stream else {answer.model}
    assert names == {model}
