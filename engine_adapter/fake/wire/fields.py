"""Reading request bodies: typed fields, limits, the served model, and the errors for what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from engine_adapter.fake.answers import Limits
from engine_adapter.fake.block_pool import CacheScope
from engine_adapter.fake.chat_template import MessageError, render_chat
from engine_adapter.fake.config import FakeEngineConfig, ServedModel
from engine_adapter.fake.tokens import MAX_TOKEN_ID, Prompt
from engine_adapter.fake.wire.errors import ApiError, malformed

Body = Mapping[str, Any]
T = TypeVar("T")

_TYPES: dict[type, tuple[str, str]] = {
    int: ("int_type", "Input should be a valid integer"),
    float: ("float_type", "Input should be a valid number"),
    bool: ("bool_type", "Input should be a valid boolean"),
    str: ("string_type", "Input should be a valid string"),
    list: ("list_type", "Input should be a valid list"),
    dict: ("dict_type", "Input should be a valid dictionary"),
}


def optional(body: Body, name: str, kind: type[T], default: T) -> T:
    """A field that may be absent or null; raises ApiError if it has another type."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    if kind is float and isinstance(value, int):
        return cast(T, float(value))
    raise malformed(*_mismatch(kind, name, value))


def required(body: Body, name: str, kind: type[T]) -> T:
    """A field that must be there; raises ApiError if it is absent or has another type."""
    if name not in body:
        raise malformed("missing", name, "Field required", dict(body))
    value = body[name]
    if not isinstance(value, kind):
        raise malformed(*_mismatch(kind, name, value))
    return value


def _mismatch(kind: type, name: str, value: Any) -> tuple[str, str, str, Any]:
    problem, message = _TYPES[kind]
    return problem, name, message, value


def served_model(config: FakeEngineConfig, body: Body) -> ServedModel:
    """The model a request names, the first if it names none; raises ApiError 404 if it is not served."""
    name = optional(body, "model", str, "")
    model = config.served(name)
    if model is None:
        aliases = ", ".join(served.name for served in config.models if served.parent is None)
        raise ApiError(
            f"The model `{name}` does not exist. Valid aliases: {aliases}.",
            status=404,
            kind="NotFoundError",
            param="model",
        )
    return model


def cache_scope(config: FakeEngineConfig, model: ServedModel, body: Body) -> CacheScope:
    """What sets the request's KV blocks apart: its adapter and its cache salt."""
    salt = body.get("cache_salt")
    if salt is not None and (not isinstance(salt, str) or not salt):
        raise ApiError("Parameter 'cache_salt' must be a non-empty string if provided.", param="cache_salt")
    if model.parent is None:
        return CacheScope(salt=salt)
    adapters = [served for served in config.models if served.parent is not None]
    return CacheScope(model.name, model.root or model.name, adapters.index(model) + 1, salt)


def chat_prompt(
    messages: Sequence[Any], tools: Sequence[Any] | None = None, *, generation: bool = True
) -> Prompt:
    """Tokens of a conversation; raises ApiError if a message is malformed."""
    try:
        return render_chat(messages, tools, add_generation_prompt=generation)
    except MessageError as error:
        raise malformed("value_error", error.location, str(error)) from error


def text_prompts(value: Any, name: str) -> list[Prompt]:
    """Prompts given as text, texts, token ids or lists of token ids; raises ApiError for anything else."""
    if isinstance(value, str):
        return [Prompt.from_text(value)]
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return [Prompt.from_text(item) for item in value]
        if _are_ids(value):
            return [Prompt.from_ids(value)]
        if all(isinstance(item, list) and _are_ids(item) for item in value):
            return [Prompt.from_ids(item) for item in value]
    raise malformed("string_type", f"{name}.str", "Input should be a valid string", value)


def _are_ids(value: list[Any]) -> bool:
    return all(type(item) is int and 0 <= item <= MAX_TOKEN_ID for item in value)


def check_length(config: FakeEngineConfig, prompt: Prompt, output_tokens: int = 0) -> None:
    """Raise vLLM's ApiError if prompt and requested output exceed the context length."""
    limit = config.context_length
    if prompt.count + output_tokens <= limit:
        return
    if prompt.count >= limit:
        raise ApiError(
            f"This model's maximum context length is {limit} tokens. However, your prompt contains "
            f"{prompt.count} input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt.",
            param="input_tokens",
        )
    raise ApiError(
        f"This model's maximum context length is {limit} tokens. However, you requested {output_tokens} "
        f"output tokens and your prompt contains {prompt.count} input tokens, for a total of "
        f"{prompt.count + output_tokens} tokens. Please reduce the length of the input prompt or the number "
        "of requested output tokens.",
        param="input_tokens",
    )


def answer_limits(
    config: FakeEngineConfig, body: Body, prompt: Prompt, max_tokens: int | None, stop_field: str = "stop"
) -> Limits:
    """When the answer to `prompt` ends; raises ApiError if that cannot be or exceeds the context length."""
    if max_tokens is None:
        check_length(config, prompt, 1)
        max_tokens = config.context_length - prompt.count
    else:
        if max_tokens < 1:
            raise ApiError(f"max_tokens must be at least 1, got {max_tokens}.", param="max_tokens")
        check_length(config, prompt, max_tokens)
    stop = body.get(stop_field)
    if isinstance(stop, str):
        stop = [stop]
    if stop is not None and not (isinstance(stop, list) and all(isinstance(s, str) for s in stop)):
        raise malformed("string_type", f"{stop_field}.str", "Input should be a valid string", stop)
    return Limits(
        natural=config.answer_tokens,
        max_tokens=max_tokens,
        min_tokens=optional(body, "min_tokens", int, 0),
        ignore_eos=optional(body, "ignore_eos", bool, False),
        stop=tuple(stop or ()),
        include_stop=optional(body, "include_stop_str_in_output", bool, False),
    )


def choices_wanted(body: Body) -> int:
    """The `n` of a request; raises ApiError unless it is from 1 to 128."""
    n = optional(body, "n", int, 1)
    if not 1 <= n <= 128:
        raise ApiError(f"n must be between 1 and 128, got {n}.", param="n")
    return n


def stream_options(body: Body) -> tuple[bool, bool, bool]:
    """Whether to stream, to send usage at the end, and to send it with every event."""
    streaming = optional(body, "stream", bool, False)
    options = optional(body, "stream_options", dict, {})
    if options and not streaming:
        raise malformed(
            "value_error",
            "stream_options",
            "Value error, Stream options can only be defined when `stream=True`.",
            dict(options),
        )
    usage = bool(options.get("include_usage"))
    return streaming, usage, usage and bool(options.get("continuous_usage_stats"))
