"""Engines and requests whose KV is not decided by token ids alone, or not kept in one kind of page, are left
to the engine: the layer says why it is off instead of guessing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine_adapter.vllm.eligibility import engine_refusal, is_served

torch = pytest.importorskip("torch")
specs = pytest.importorskip("vllm.v1.kv_cache_interface")

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

FULL = {"block_size": 16, "num_kv_heads": 2, "head_size": 64, "dtype": torch.bfloat16}


def refusal(*groups: Any, parallel: dict[str, int] | None = None, **changes: Any) -> str | None:
    """What is said about an engine with these kinds of KV cache; `changes` to an engine that is served."""
    sizes = dict.fromkeys(
        (
            "tensor_parallel_size",
            "pipeline_parallel_size",
            "decode_context_parallel_size",
            "prefill_context_parallel_size",
        ),
        1,
    )
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(**sizes | (parallel or {})),
        cache_config=SimpleNamespace(cache_dtype=changes.get("cache_dtype", "auto")),
        model_config=SimpleNamespace(
            is_encoder_decoder=changes.get("is_encoder_decoder", False),
            runner_type=changes.get("runner_type", "generate"),
        ),
    )
    kv_cache = SimpleNamespace(kv_cache_groups=[SimpleNamespace(kv_cache_spec=spec) for spec in groups])
    return engine_refusal(config, kv_cache)  # type: ignore[arg-type]


def full(**changes: Any) -> Any:
    return specs.FullAttentionSpec(**FULL | changes)


def test_full_attention_on_one_device_is_served() -> None:
    assert refusal(full()) is None


def test_models_with_other_kinds_of_kv_are_refused() -> None:
    sliding = specs.SlidingWindowSpec(**FULL, sliding_window=128)
    mamba = specs.MambaSpec(block_size=16, shapes=((4, 4),), dtypes=(torch.float32,))
    mla = specs.MLAAttentionSpec(**FULL | {"num_kv_heads": 1})
    assert "2 kinds of KV cache" in (refusal(full(), sliding) or "")
    assert "SlidingWindowSpec" in (refusal(sliding) or "")
    assert "MambaSpec" in (refusal(mamba) or "")
    assert "MLAAttentionSpec" in (refusal(mla) or "")
    assert refusal(full(sliding_window=128)) is not None
    assert refusal(full(attention_chunk_size=128)) is not None
    assert "values 32" in (refusal(full(head_size_v=32)) or "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"parallel": {"tensor_parallel_size": 2}}, "tensor parallel size is 2"),
        ({"parallel": {"pipeline_parallel_size": 2}}, "pipeline parallel size is 2"),
        ({"cache_dtype": "fp8_e4m3"}, "quantizes its KV cache"),
        ({"is_encoder_decoder": True}, "has an encoder"),
        ({"runner_type": "pooling"}, "does not generate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_engines_that_are_built_otherwise_are_refused(changes: dict[str, Any], why: str) -> None:
    assert why in (refusal(full(), **changes) or "")


def test_requests_whose_tokens_do_not_decide_their_kv_are_left_alone() -> None:
    plain = {
        "sampling_params": object(),
        "prompt_token_ids": [1],
        "prompt_embeds": None,
        "resumable": False,
    }
    assert is_served(SimpleNamespace(**plain))  # type: ignore[arg-type]
    for change in (
        {"sampling_params": None},
        {"prompt_token_ids": None},
        {"prompt_embeds": object()},
        {"resumable": True},
    ):
        assert not is_served(SimpleNamespace(**plain | change))  # type: ignore[arg-type]
