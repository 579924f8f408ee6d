"""The relayed endpoints as the API document describes them: what a client must know, not all an engine takes.

Schemas stay open (`additionalProperties`): a field that the engine knows and this file does not is relayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object", "additionalProperties": True}
MODEL: Schema = {"type": "string", "description": "A name of GET /v1/models, or an alias."}
MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": STRING, "content": {}},
        "additionalProperties": True,
    },
    "example": [{"role": "user", "content": "Hello!"}],
}
TEXT_OR_TOKENS: Schema = {
    "oneOf": [STRING, {"type": "array", "items": STRING}, {"type": "array", "items": INTEGER}],
    "example": "Hello!",
}
SAMPLING: dict[str, Schema] = {
    "temperature": NUMBER,
    "top_p": NUMBER,
    "seed": INTEGER,
    "stop": {"oneOf": [STRING, {"type": "array", "items": STRING}]},
    "n": INTEGER,
}
STREAM: dict[str, Schema] = {
    "stream": {"type": "boolean", "description": "Answer as server-sent events."},
    "stream_options": {"type": "object", "properties": {"include_usage": BOOLEAN}},
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One relayed path; all of them are POST."""

    path: str
    summary: str
    required: dict[str, Schema]
    optional: dict[str, Schema]
    reference: str
    """Where the whole of it is described."""
    also: tuple[str, ...] = ()
    """Other paths that are the same."""
    streams: bool = False


ENDPOINTS = (
    Endpoint(
        "/v1/chat/completions",
        "Chat",
        {"messages": MESSAGES},
        {
            "model": MODEL,
            "max_completion_tokens": INTEGER,
            "tools": {"type": "array", "items": OBJECT},
            "response_format": OBJECT,
            "logprobs": BOOLEAN,
            **SAMPLING,
            **STREAM,
        },
        streams=True,
        reference="https://platform.openai.com/docs/api-reference/chat",
    ),
    Endpoint(
        "/v1/completions",
        "Complete a text",
        {"prompt": TEXT_OR_TOKENS},
        {"model": MODEL, "max_tokens": INTEGER, "logprobs": INTEGER, "echo": BOOLEAN, **SAMPLING, **STREAM},
        streams=True,
        reference="https://platform.openai.com/docs/api-reference/completions",
    ),
    Endpoint(
        "/v1/responses",
        "Responses",
        {"input": {"oneOf": [STRING, {"type": "array", "items": OBJECT}], "example": "Hello!"}},
        {
            "model": MODEL,
            "instructions": STRING,
            "max_output_tokens": INTEGER,
            "tools": {"type": "array", "items": OBJECT},
            "stream": BOOLEAN,
        },
        streams=True,
        reference="https://platform.openai.com/docs/api-reference/responses",
    ),
    Endpoint(
        "/v1/messages",
        "Chat, in Anthropic's form",
        {"messages": MESSAGES, "max_tokens": INTEGER},
        {"model": MODEL, "system": {}, "tools": {"type": "array", "items": OBJECT}, "stream": BOOLEAN},
        streams=True,
        reference="https://docs.anthropic.com/en/api/messages",
    ),
    Endpoint(
        "/v1/messages/count_tokens",
        "Count the tokens of a chat in Anthropic's form",
        {"messages": MESSAGES},
        {"model": MODEL, "system": {}},
        reference="https://docs.anthropic.com/en/api/messages-count-tokens",
    ),
    Endpoint(
        "/v1/embeddings",
        "Embed texts",
        {"input": TEXT_OR_TOKENS},
        {"model": MODEL, "dimensions": INTEGER, "encoding_format": {"enum": ["float", "base64"]}},
        reference="https://platform.openai.com/docs/api-reference/embeddings",
    ),
    Endpoint(
        "/v1/rerank",
        "Order documents by how well they answer a query",
        {"query": STRING, "documents": {"type": "array", "items": STRING}},
        {"model": MODEL, "top_n": INTEGER},
        also=("/rerank", "/v2/rerank"),
        reference="https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
    ),
    Endpoint(
        "/v1/score",
        "Score pairs of texts",
        {"text_1": TEXT_OR_TOKENS, "text_2": TEXT_OR_TOKENS},
        {"model": MODEL},
        also=("/score",),
        reference="https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
    ),
    Endpoint(
        "/classify",
        "Classify texts",
        {"input": TEXT_OR_TOKENS},
        {"model": MODEL},
        reference="https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
    ),
    Endpoint(
        "/pooling",
        "Hidden states or scores of a pooling model",
        {"input": TEXT_OR_TOKENS},
        {"model": MODEL, "encoding_format": {"enum": ["float", "base64"]}},
        reference="https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
    ),
    Endpoint(
        "/tokenize",
        "Turn a text or a chat into tokens",
        {},
        {"model": MODEL, "prompt": STRING, "messages": MESSAGES, "add_special_tokens": BOOLEAN},
        reference="https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
    ),
    Endpoint(
        "/detokenize",
        "Turn tokens into text",
        {"tokens": {"type": "array", "items": INTEGER}},
        {"model": MODEL},
        reference="https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
    ),
)

PATHS = frozenset(path for endpoint in ENDPOINTS for path in (endpoint.path, *endpoint.also))
"""Every path that is relayed, by POST only."""
