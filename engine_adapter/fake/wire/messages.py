"""`/v1/messages` and `/v1/messages/count_tokens`: Anthropic's form, as vLLM translates it."""

from __future__ import annotations

from typing import Any

import orjson

from engine_adapter.fake.answers import Answer
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.tokens import Prompt
from engine_adapter.fake.wire import fields, tools
from engine_adapter.fake.wire.errors import malformed
from engine_adapter.fake.wire.generation import Generation, Origin


def parse(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand a messages request; raises ApiError."""
    fields.required(body, "model", str)
    max_tokens = fields.required(body, "max_tokens", int)
    if max_tokens < 1:
        raise malformed("value_error", "max_tokens", "Value error, max_tokens must be positive", max_tokens)
    prompt, functions = _prompt(body)
    model = fields.served_model(config, body)
    function = tools.forced_function(_chat_tool_choice(body.get("tool_choice")), functions)
    limits = fields.answer_limits(config, body, prompt, max_tokens, "stop_sequences")
    request_id = f"chatcmpl-{origin.request_id}"
    (answer,) = tools.compose(
        config,
        prompt,
        limits,
        n=1,
        seed=0,
        call_id=f"chatcmpl-tool-{origin.request_id}",
        function=function,
        schema=_output_schema(body),
    )
    rendering = MessagesRendering(config, request_id, model.name, prompt, answer)
    return Generation(
        request_id,
        model.name,
        [prompt],
        [[answer]],
        fields.optional(body, "stream", bool, False),
        rendering,
        fields.cache_scope(config, model, body),
    )


def count_tokens(config: FakeEngineConfig, body: fields.Body) -> bytes:
    """The answer of `/v1/messages/count_tokens`; raises ApiError."""
    fields.required(body, "model", str)
    prompt, _ = _prompt(body)
    fields.served_model(config, body)
    return orjson.dumps(
        {"input_tokens": prompt.count, "context_management": {"original_input_tokens": prompt.count}}
    )


def _prompt(body: fields.Body) -> tuple[Prompt, list[tools.Function]]:
    messages = [_message(message) for message in fields.required(body, "messages", list)]
    system = body.get("system")
    if system is not None:
        if not isinstance(system, (str, list)):
            raise malformed("string_type", "system.str", "Input should be a valid string", system)
        messages.insert(0, {"role": "system", "content": system})
    given = fields.optional(body, "tools", list, [])
    functions: list[tools.Function] = []
    for number, tool in enumerate(given):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise malformed("missing", f"tools.{number}.name", "Field required")
        functions.append({"name": tool["name"], "parameters": tool.get("input_schema")})
    return fields.chat_prompt(messages, given or None), functions


def _message(message: Any) -> Any:
    """A message whose tool results, if it has any, read like text."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    parts = []
    for part in content:
        if (
            isinstance(part, dict)
            and part.get("type") == "tool_result"
            and isinstance(part.get("content"), str)
        ):
            parts.append({"type": "text", "text": part["content"]})
        else:
            parts.append(part)
    return {"role": message.get("role"), "content": parts}


def _chat_tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return None
    match choice.get("type"):
        case "any":
            return "required"
        case "tool":
            return {"type": "function", "function": {"name": choice.get("name")}}
    return None


def _output_schema(body: fields.Body) -> Any:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    return wanted.get("schema") if isinstance(wanted, dict) else None


class MessagesRendering:
    """One message: a text block or a tool_use block."""

    def __init__(
        self, config: FakeEngineConfig, request_id: str, model: str, prompt: Prompt, answer: Answer
    ) -> None:
        self._id = request_id
        self._model = model
        self._prompt = prompt
        self._answer = answer
        self._details = config.prompt_tokens_details
        self._escaped = config.vocabulary.escaped

    def preamble(self) -> bytes:
        """Nothing: `message_start` waits for the first token."""
        return b""

    def step(self, index: int, cached: int) -> bytes:
        """A delta event; the first step starts message and block."""
        opening = b"" if index else self._opening()
        delta = self._answer.deltas[index]
        if self._answer.tool is not None:
            return opening + _event(
                "content_block_delta", delta={"type": "input_json_delta", "partial_json": delta}, index=0
            )
        text = self._escaped.get(delta) or orjson.dumps(delta)[1:-1]
        return opening + _DELTA % text if text else opening

    def closing(self, cached: int) -> bytes:
        """The end of block and message, with reason and usage."""
        reason, sequence = self._stop()
        return b"".join(
            (
                _event("content_block_stop", index=0),
                _event(
                    "message_delta",
                    delta={"stop_reason": reason, "stop_sequence": sequence},
                    usage=self._usage(cached),
                ),
                _event("message_stop"),
            )
        )

    def body(self, cached: int) -> bytes:
        """The `message` object; vLLM leaves nulls out here."""
        reason, sequence = self._stop()
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": [self._block()],
            "model": self._model,
            "stop_reason": reason,
        }
        if sequence is not None:
            message["stop_sequence"] = sequence
        return orjson.dumps(message | {"usage": self._usage(cached)})

    def _opening(self) -> bytes:
        tool = self._answer.tool
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._prompt.count, "output_tokens": 0},
        }
        block: dict[str, Any] = {"type": "text", "text": ""}
        if tool is not None:
            block = {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}
        return _event("message_start", message=message) + _event(
            "content_block_start", content_block=block, index=0
        )

    def _block(self) -> dict[str, Any]:
        answer = self._answer
        if answer.tool is None:
            return {"type": "text", "text": answer.text}
        try:
            arguments = orjson.loads(answer.text)
        except orjson.JSONDecodeError:
            arguments = {}  # cut off by max_tokens
        return {"type": "tool_use", "id": answer.tool.id, "name": answer.tool.name, "input": arguments}

    def _stop(self) -> tuple[str, str | None]:
        answer = self._answer
        if answer.finish_reason == "length":
            return "max_tokens", None
        if answer.tool is not None:
            return "tool_use", None
        if answer.stop_reason is not None:
            return "stop_sequence", answer.stop_reason
        return "end_turn", None

    def _usage(self, cached: int) -> dict[str, int]:
        figures = {"input_tokens": self._prompt.count, "output_tokens": len(self._answer.tokens)}
        if self._details:
            figures["input_tokens"] -= cached
            figures["cache_read_input_tokens"] = cached
        return figures


def _event(kind: str, **content: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind} | content))


_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"},"index":0}\n\n'
)
