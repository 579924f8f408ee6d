"""What the KV layer does not serve, and why: engines by their configuration, requests by their kind.

An engine that is refused runs as if there were no KV layer, and says so; nothing is guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request


def engine_refusal(config: VllmConfig, kv_cache: KVCacheConfig) -> str | None:
    """Why the KV layer stays off for an engine so configured, or None. Looks at configuration only."""
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    parallel = config.parallel_config
    for name in (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "decode_context_parallel_size",
        "prefill_context_parallel_size",
    ):
        if getattr(parallel, name) > 1:
            return f"{name.replace('_', ' ')} is {getattr(parallel, name)}; it serves engines on one device"
    groups = kv_cache.kv_cache_groups
    if len(groups) != 1:
        return f"the model has {len(groups)} kinds of KV cache; it serves models with one"
    spec = groups[0].kv_cache_spec
    if type(spec) is not FullAttentionSpec or spec.sliding_window or spec.attention_chunk_size:
        return f"the model's KV cache is a {type(spec).__name__}; it serves full attention over all tokens"
    if spec.head_size != spec.head_size_v:
        return f"keys have {spec.head_size} elements per head and values {spec.head_size_v}"
    if config.cache_config.cache_dtype not in ("auto", "bfloat16", "float16", "float32"):
        return f"the engine quantizes its KV cache ({config.cache_config.cache_dtype})"
    if config.model_config.is_encoder_decoder:
        return "the model has an encoder"
    if config.model_config.runner_type != "generate":
        return f"the model does not generate ({config.model_config.runner_type})"
    return None


def is_served(request: Request) -> bool:
    """Whether token ids, images and adapter alone decide the request's KV, from its first token on."""
    return (
        request.sampling_params is not None
        and request.prompt_token_ids is not None
        and request.prompt_embeds is None
        and not request.resumable
    )
