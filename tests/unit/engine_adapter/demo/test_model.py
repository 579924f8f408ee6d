"""The plain decoder: cache and full pass agree, files round-trip, the planted circuit recalls."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from engine_adapter.demo.checkpoint import (  # noqa: E402
    fused_weights,
    hub_weights,
    load_model,
    load_state,
    save_model,
    save_state,
)
from engine_adapter.demo.family import MODELS  # noqa: E402
from engine_adapter.demo.generate import continuation_scores, greedy, prefill  # noqa: E402
from engine_adapter.demo.model import Llama, LlamaShape  # noqa: E402
from engine_adapter.demo.planting import plant_recall  # noqa: E402
from engine_adapter.demo.random_llama import shape_for  # noqa: E402
from engine_adapter.demo.tokenizer import load_tokenizer  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = LlamaShape(300, 128, 192, 3, 2, 2, max_position_embeddings=256)


def _model(seed: int = 0, shape: LlamaShape = SHAPE) -> Llama:
    model = Llama(shape)
    model.initialise(seed)
    return model.eval()


def _tokens(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(SHAPE.vocab_size) for _ in range(count)]


def test_parameter_count_is_exact() -> None:
    assert SHAPE.parameters() == sum(weight.numel() for weight in _model().parameters())


def test_uneven_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot share"):
        LlamaShape(300, 192, 256, 1, 3, 2)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_cached_steps_equal_one_full_pass(kv_heads: int) -> None:
    model = _model(shape=LlamaShape(300, 128, 192, 3, 2, kv_heads, max_position_embeddings=256))
    tokens = torch.tensor([_tokens(20)])
    with torch.inference_mode():
        full, _ = model.hidden(tokens)
        first, past = model.hidden(tokens[:, :7])
        middle, past = model.hidden(tokens[:, 7:15], past=past)
        last, past = model.hidden(tokens[:, 15:], past=past)
    assert torch.allclose(torch.cat([first, middle, last], dim=1), full, atol=1e-4)
    assert past[0][0].shape == (1, kv_heads, 20, 64)


def test_explicit_positions_equal_implicit_ones() -> None:
    model, tokens = _model(), torch.tensor([_tokens(12)])
    with torch.inference_mode():
        implicit, _ = model.hidden(tokens)
        explicit, _ = model.hidden(tokens, positions=torch.arange(12)[None])
    assert torch.allclose(implicit, explicit, atol=1e-5)


def test_greedy_is_the_same_with_and_without_given_kv() -> None:
    model, prompt = _model(), _tokens(30)
    plain = greedy(model, prompt, end=-1, limit=10)
    resumed = greedy(model, prompt, end=-1, limit=10, past=prefill(model, prompt[:-1]))
    assert plain == resumed
    assert len(plain) == 10
    with pytest.raises(ValueError, match="leave at least one"):
        greedy(model, prompt, end=-1, limit=1, past=prefill(model, prompt))


def test_greedy_stops_at_the_end_token() -> None:
    model, prompt = _model(), _tokens(30)
    first = greedy(model, prompt, end=-1, limit=1)[0]
    assert greedy(model, prompt, end=first, limit=10) == []


def test_continuation_scores_are_distributions() -> None:
    model, prompt = _model(), _tokens(12)
    scores = continuation_scores(model, prompt, _tokens(5, seed=1), prefill(model, prompt[:-1]))
    assert scores.shape == (5, SHAPE.vocab_size)
    assert torch.allclose(scores.exp().sum(-1), torch.ones(5), atol=1e-5)


def test_fused_and_split_weights_are_inverse() -> None:
    weights = {name: weight.detach().bfloat16().float() for name, weight in _model().named_parameters()}
    named = hub_weights(SHAPE, weights)
    assert named["model.layers.2.self_attn.k_proj.weight"].shape == (128, 128)
    assert named["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16
    back = fused_weights(SHAPE, named)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_saved_model_loads(tmp_path: Path) -> None:
    model = _model()
    save_model(tmp_path, SHAPE, dict(model.named_parameters()), load_tokenizer(MODELS / "base"))
    loaded = load_model(tmp_path)
    assert loaded.shape == SHAPE
    prompt = _tokens(20)
    assert greedy(loaded, prompt, end=-1, limit=1) == greedy(model, prompt, end=-1, limit=1)


def test_state_round_trip(tmp_path: Path) -> None:
    save_state(tmp_path / "state.safetensors", {"a": torch.arange(3)}, {"step": 5})
    tensors, progress = load_state(tmp_path / "state.safetensors")
    assert tensors["a"].tolist() == [0, 1, 2]
    assert progress == {"step": 5}
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_planted_circuit_ranks_the_right_value_high_before_any_training() -> None:
    model = _model(shape=LlamaShape(300, 192, 128, 3, 3, 3, max_position_embeddings=256))
    rng = random.Random(0)
    rows, values = [], []
    for _ in range(64):
        pairs = list(zip(rng.sample(range(0, 300, 2), 6), rng.sample(range(1, 300, 2), 6), strict=True))
        rows.append([token for pair in pairs for token in pair] + [pairs[3][0]])
        values.append(pairs[3][1])

    def median_rank() -> float:
        hidden, _ = model.hidden(torch.tensor(rows))
        scores = model.logits(hidden[:, -1])
        right = scores[range(64), values][:, None]
        return float((scores > right).sum(-1).float().median())

    with torch.inference_mode():
        assert median_rank() > 60
        plant_recall(model, 0)
        assert median_rank() < 30


def test_random_llama_sizes() -> None:
    assert 70e6 < shape_for(80e6, 4096).parameters() < 110e6
    assert shape_for(1e6, 4096).parameters() < 3e6
