"""`/tokenize`, `/detokenize` and `/v1/models`."""

from __future__ import annotations

from typing import Any

import orjson

from engine_adapter.fake.config import FakeEngineConfig, ServedModel
from engine_adapter.fake.tokens import MAX_TOKEN_ID, Prompt, decode
from engine_adapter.fake.wire import fields
from engine_adapter.fake.wire.errors import ApiError, malformed


def tokenize(config: FakeEngineConfig, body: fields.Body) -> bytes:
    """Tokens of a `prompt` or of `messages`; raises ApiError."""
    if "messages" in body:
        prompt = fields.chat_prompt(
            fields.required(body, "messages", list),
            fields.optional(body, "tools", list, []) or None,
            generation=fields.optional(body, "add_generation_prompt", bool, True),
        )
    else:
        prompt = Prompt.from_text(fields.required(body, "prompt", str))
    fields.served_model(config, body)
    ids = prompt.ids()
    strings = [decode([i]) for i in ids] if fields.optional(body, "return_token_strs", bool, False) else None
    return orjson.dumps(
        {"count": len(ids), "max_model_len": config.context_length, "tokens": ids, "token_strs": strings}
    )


def detokenize(config: FakeEngineConfig, body: fields.Body) -> bytes:
    """The text of `tokens`; raises ApiError."""
    tokens = fields.required(body, "tokens", list)
    for number, token in enumerate(tokens):
        if type(token) is not int or not 0 <= token <= MAX_TOKEN_ID:
            raise malformed("int_type", f"tokens.{number}", "Input should be a valid integer", token)
    fields.served_model(config, body)
    return orjson.dumps({"prompt": decode(tokens)})


def model_list(config: FakeEngineConfig, created: int) -> bytes:
    """`/v1/models`."""
    return orjson.dumps(
        {"object": "list", "data": [_card(config, model, created) for model in config.models]}
    )


def model_card(config: FakeEngineConfig, name: str, created: int) -> bytes:
    """`/v1/models/{name}`, which vLLM 0.32 does not have but OpenAI does; raises ApiError 404."""
    model = config.served(name)
    if model is None:
        raise ApiError(f"The model `{name}` does not exist.", status=404, kind="NotFoundError", param="model")
    return orjson.dumps(_card(config, model, created))


def _card(config: FakeEngineConfig, model: ServedModel, created: int) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{model.name}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": model.root or model.name,
        "parent": model.parent,
        # vLLM gives adapters no length of their own.
        "max_model_len": config.context_length if model.parent is None else None,
        "permission": [permission],
    }
