"""KV fidelity: full prefill differs from itself by nothing, and damage shows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch")

from engine_adapter.demo.checkpoint import load_model  # noqa: E402
from engine_adapter.demo.family import MODELS  # noqa: E402
from engine_adapter.demo.fidelity import compare, foreseen, perplexity, source  # noqa: E402
from engine_adapter.demo.generate import prefill  # noqa: E402
from engine_adapter.demo.model import LayerCache, Llama  # noqa: E402
from engine_adapter.demo.stories import continuations, examples  # noqa: E402
from engine_adapter.demo.tokenizer import load_tokenizer  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def _emptied(model: Llama, tokens: Sequence[int]) -> list[LayerCache]:
    """A cache that has lost all its values."""
    return [(k, torch.zeros_like(v)) for k, v in prefill(model, tokens)]


def test_full_prefill_is_faithful_and_a_lost_cache_is_not() -> None:
    model, tokenizer = load_model(MODELS / "base"), load_tokenizer(MODELS / "base")
    made = examples(tokenizer, number=3, length=200)
    same = compare(model, source("engine_adapter.demo.generate:prefill"), made)
    assert same.kl == pytest.approx(0.0, abs=1e-6)
    assert same.agreement == 1.0
    assert same.nll_full == pytest.approx(same.nll_other)
    assert same.tokens == sum(len(answer) for _, answer in made)
    lost = compare(model, _emptied, made)
    assert lost.kl > 0.1
    assert lost.agreement < 1.0
    assert lost.nll_other > lost.nll_full


def test_documents_are_cut_in_two() -> None:
    tokenizer = load_tokenizer(MODELS / "base")
    for prompt, rest in continuations(tokenizer, number=3, length=200):
        assert abs(len(prompt) - len(rest)) <= 1
        assert tokenizer.decode(rest).strip()


def test_a_source_is_named_with_a_colon() -> None:
    with pytest.raises(ValueError, match="package.module:function"):
        source("engine_adapter.demo.generate")


def test_no_examples_no_numbers() -> None:
    model = load_model(MODELS / "base")
    assert compare(model, prefill, []).tokens == 0


def test_a_model_foresees_itself() -> None:
    model, tokenizer = load_model(MODELS / "base"), load_tokenizer(MODELS / "base")
    prompts = [prompt for prompt, _ in examples(tokenizer, number=3, length=150)]
    right, of = foreseen(model, model, prompts, end=tokenizer.token_to_id("<|end|>"), limit=12)
    assert right == of > 3


def test_perplexity_of_a_trained_model_is_far_below_chance() -> None:
    model, tokenizer = load_model(MODELS / "base"), load_tokenizer(MODELS / "base")
    assert 1.0 < perplexity(model, continuations(tokenizer, number=2, length=200)) < 200.0
    assert perplexity(model, []) != perplexity(model, [])
