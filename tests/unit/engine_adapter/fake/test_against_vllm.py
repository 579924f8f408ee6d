"""Shapes, events and hashes compared with vLLM's own code."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import httpx
import pytest

from engine_adapter.fake.block_hash import BlockHasher
from engine_adapter.fake.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, EventBatch
from engine_adapter.fake.stats import ITL_BUCKETS, REQUEST_LATENCY_BUCKETS, TTFT_BUCKETS
from engine_adapter.fake.tokens import Prompt

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]
pytest.importorskip("vllm")

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "the fox"}], "max_tokens": 3}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
ENTRY = "vllm.entrypoints"

WHOLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("/v1/chat/completions", CHAT, f"{ENTRY}.openai.chat_completion.protocol", "ChatCompletionResponse"),
    ("/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 2, "n": 2, "return_token_ids": True},
     f"{ENTRY}.openai.chat_completion.protocol", "ChatCompletionResponse"),
    ("/v1/chat/completions", CHAT | {"tools": TOOLS, "tool_choice": "required"},
     f"{ENTRY}.openai.chat_completion.protocol", "ChatCompletionResponse"),
    ("/v1/completions", {"prompt": ["a", "b"], "logprobs": 2, "max_tokens": 3},
     f"{ENTRY}.openai.completion.protocol", "CompletionResponse"),
    ("/v1/embeddings", {"input": "a"}, f"{ENTRY}.pooling.embed.protocol", "EmbeddingResponse"),
    ("/pooling", {"input": "a"}, f"{ENTRY}.pooling.pooling.protocol", "PoolingResponse"),
    ("/classify", {"input": "a"}, f"{ENTRY}.pooling.classify.protocol", "ClassificationResponse"),
    ("/score", {"text_1": "a", "text_2": "b"}, f"{ENTRY}.pooling.scoring.protocol", "ScoreResponse"),
    ("/rerank", {"query": "a", "documents": ["b"]}, f"{ENTRY}.pooling.scoring.protocol", "RerankResponse"),
    ("/tokenize", {"prompt": "abc", "return_token_strs": True}, f"{ENTRY}.serve.tokenize.protocol",
     "TokenizeResponse"),
    ("/detokenize", {"tokens": [1, 2]}, f"{ENTRY}.serve.tokenize.protocol", "DetokenizeResponse"),
    ("/v1/chat/completions", {"messages": 3}, f"{ENTRY}.serve.engine.protocol", "ErrorResponse"),
    ("/v1/chat/completions", CHAT | {"model": "none"}, f"{ENTRY}.serve.engine.protocol", "ErrorResponse"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "module", "name"), WHOLE)
async def test_a_document_is_what_vllms_model_dumps(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], module: str, name: str
) -> None:
    answer = (await client.post(path, json=body)).json()
    dumped = getattr(import_module(module), name).model_validate(answer).model_dump(mode="json")
    assert dumped == answer
    assert list(dumped) == list(answer)


async def test_models_are_what_vllms_model_dumps(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/models")).json()
    model = import_module(f"{ENTRY}.serve.engine.protocol").ModelList
    dumped = model.model_validate(answer).model_dump(mode="json")
    assert dumped == answer
    assert list(dumped["data"][0]) == list(answer["data"][0])


@pytest.mark.parametrize(
    ("path", "body", "module", "name"),
    [
        (
            "/v1/chat/completions",
            CHAT,
            f"{ENTRY}.openai.chat_completion.protocol",
            "ChatCompletionStreamResponse",
        ),
        (
            "/v1/completions",
            {"prompt": "a"},
            f"{ENTRY}.openai.completion.protocol",
            "CompletionStreamResponse",
        ),
    ],
)
@pytest.mark.parametrize("usage", [{}, {"stream_options": {"include_usage": True}}])
async def test_chunks_are_what_vllms_model_dumps(
    client: httpx.AsyncClient, sse: Any, path: str, body: dict[str, Any], module: str, name: str, usage: Any
) -> None:
    *chunks, _ = sse((await client.post(path, json=body | usage | {"stream": True})).content)
    model = getattr(import_module(module), name)
    for _, chunk in chunks:
        dumped = model.model_validate(chunk).model_dump(mode="json", exclude_unset=True)
        assert dumped == chunk
        assert list(dumped) == list(chunk)
        for ours, theirs in zip(chunk["choices"], dumped["choices"], strict=True):
            assert list(ours) == list(theirs)


async def test_messages_are_what_vllms_models_dump(client: httpx.AsyncClient, sse: Any) -> None:
    protocol = import_module(f"{ENTRY}.anthropic.protocol")
    body = CHAT | {"model": "fake"}
    answer = (await client.post("/v1/messages", json=body)).json()
    dumped = protocol.AnthropicMessagesResponse.model_validate(answer).model_dump(exclude_none=True)
    assert dumped == answer
    for name, event in sse((await client.post("/v1/messages", json=body | {"stream": True})).content):
        dumped = protocol.AnthropicStreamEvent.model_validate(event).model_dump(exclude_unset=True)
        assert dumped == event
        assert list(dumped) == list(event)
        assert name == event["type"]


async def test_responses_have_the_fields_vllms_model_has(client: httpx.AsyncClient) -> None:
    model = import_module(f"{ENTRY}.openai.responses.protocol").ResponsesResponse
    answer = (await client.post("/v1/responses", json={"input": "a", "max_output_tokens": 3})).json()
    dumped = model.model_validate(answer).model_dump(mode="json", by_alias=True)
    assert dumped == answer
    assert list(dumped) == list(answer)


def test_block_hashes_are_those_of_vllms_function() -> None:
    utils = import_module("vllm.v1.core.kv_cache_utils")
    sha256_cbor = import_module("vllm.utils.hashing").sha256_cbor
    utils.init_none_hash(sha256_cbor)
    prompt = Prompt.from_text("the fox ran out of the den " * 30)
    lora, salt = (("lora", "ad", "/lora"),), (("cache_salt", "tenant"),)
    ours: list[bytes] = []
    BlockHasher(32, utils.DEFAULT_NONE_HASH_SEED).extend(ours, prompt, lora, salt)
    theirs, parent = [], None
    for number in range(prompt.count // 32):
        extra = lora + salt if number == 0 else lora
        parent = utils.hash_block_tokens(
            sha256_cbor, parent, prompt.ids()[number * 32 : number * 32 + 32], extra
        )
        theirs.append(parent)
    assert ours == theirs
    assert utils.maybe_convert_block_hash(theirs[0]) == int.from_bytes(ours[0][-8:], "big")


def test_events_decode_as_vllms_types() -> None:
    import msgspec

    theirs = import_module("vllm.distributed.kv_events")
    batch = EventBatch(
        1.5,
        [
            BlockStored([1, 2], None, [5, 6], 1, None, "GPU", None, [None, ("salt",)], 0, "full_attention"),
            BlockRemoved([1], "GPU", 0),
            AllBlocksCleared(),
        ],
        0,
    )
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=theirs.KVEventBatch)
    stored, removed, cleared = decoded.events
    assert (stored.block_hashes, stored.token_ids, stored.extra_keys) == ([1, 2], [5, 6], [None, ("salt",)])
    assert (removed.block_hashes, removed.medium, removed.group_idx) == ([1], "GPU", 0)
    assert isinstance(cleared, theirs.AllBlocksCleared)
    again = theirs.KVEventBatch(ts=1.5, events=decoded.events, data_parallel_rank=0)
    assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(batch)


def test_buckets_are_vllms() -> None:
    buckets = import_module("vllm.v1.metrics.buckets")
    assert buckets.REQUEST_LATENCY_BUCKETS == REQUEST_LATENCY_BUCKETS
    assert buckets.TIME_TO_FIRST_TOKEN_BUCKETS == TTFT_BUCKETS
    assert buckets.INTER_TOKEN_LATENCY_BUCKETS == ITL_BUCKETS
