"""`/v1/responses`: requests, whole responses and numbered event streams."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from engine_adapter.fake.answers import Answer
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.tokens import Prompt
from engine_adapter.fake.wire import fields, tools
from engine_adapter.fake.wire.errors import ApiError, malformed
from engine_adapter.fake.wire.generation import Generation, Origin


def parse(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand a responses request; raises ApiError."""
    if "input" not in body:
        raise malformed("missing", "input", "Field required", dict(body))
    model = fields.served_model(config, body)
    given_tools = fields.optional(body, "tools", list, [])
    functions = [tool for tool in given_tools if isinstance(tool, dict) and tool.get("type") == "function"]
    function = tools.forced_function(_chat_tool_choice(body.get("tool_choice")), functions)
    messages = _messages(body["input"])
    if instructions := fields.optional(body, "instructions", str, ""):
        messages.insert(0, {"role": "system", "content": instructions})
    prompt = fields.chat_prompt(messages, given_tools or None)
    asked = body.get("max_output_tokens")
    limits = fields.answer_limits(
        config, body, prompt, None if asked is None else fields.required(body, "max_output_tokens", int)
    )
    (answer,) = tools.compose(
        config,
        prompt,
        limits,
        n=1,
        seed=0,
        call_id=f"call_{origin.request_id}",
        function=function,
        schema=_output_schema(body),
    )
    settings = _Settings(
        request_id=fields.optional(body, "request_id", str, f"resp_{origin.request_id}"),
        created=origin.created,
        model=model.name,
        max_output_tokens=limits.max_tokens,
        echoed=_echoed(body, given_tools),
        prompt_tokens_details=config.prompt_tokens_details,
    )
    rendering = ResponsesRendering(config, settings, prompt, answer)
    return Generation(
        settings.request_id,
        model.name,
        [prompt],
        [[answer]],
        fields.optional(body, "stream", bool, False),
        rendering,
        fields.cache_scope(config, model, body),
    )


def not_found(response_id: str) -> ApiError:
    """The error of a response that is not stored; vLLM stores none unless told to, and neither does this."""
    return ApiError(
        f"Response with id '{response_id}' not found.",
        status=404,
        kind="invalid_request_error",
        param="response_id",
    )


def _chat_tool_choice(choice: Any) -> Any:
    """The chat form of a responses `tool_choice`, in which a function is named one level higher."""
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _output_schema(body: fields.Body) -> Any:
    text = body.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_schema":
        return wanted.get("schema", True)
    return tools.output_schema({"response_format": wanted})


def _messages(given: Any) -> list[dict[str, Any]]:
    """Input items as chat messages."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise malformed("string_type", "input.str", "Input should be a valid string", given)
    messages: list[dict[str, Any]] = []
    for number, item in enumerate(given):
        if not isinstance(item, dict):
            raise malformed("dict_type", f"input.{number}", "Input should be a valid dictionary", item)
        match item.get("type", "message"):
            case "message":
                messages.append({"role": item.get("role", "user"), "content": item.get("content")})
            case "function_call":
                call = {"name": item.get("name"), "arguments": item.get("arguments")}
                messages.append({"role": "assistant", "tool_calls": [call]})
            case "function_call_output":
                output = item.get("output")
                text = output if isinstance(output, str) else orjson.dumps(output).decode()
                messages.append({"role": "tool", "content": text})
            case "reasoning":
                continue
            case kind:
                raise malformed(
                    "union_error", f"input.{number}.type", f"Unknown input item type {kind!r}", kind
                )
    return messages


def _echoed(body: fields.Body, given_tools: list[Any]) -> dict[str, Any]:
    """Fields of the request that the response object repeats, with vLLM's defaults."""
    choice = body.get("tool_choice", "auto")
    return {
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "parallel_tool_calls": fields.optional(body, "parallel_tool_calls", bool, True),
        "temperature": fields.optional(body, "temperature", float, 1.0),
        "tool_choice": choice if given_tools else "none",
        "tools": given_tools,
        "top_p": fields.optional(body, "top_p", float, 1.0),
        "background": fields.optional(body, "background", bool, False),
        "max_tool_calls": body.get("max_tool_calls"),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": body.get("reasoning"),
        "service_tier": fields.optional(body, "service_tier", str, "auto"),
        "text": body.get("text"),
        "truncation": fields.optional(body, "truncation", str, "disabled"),
        "user": body.get("user"),
    }


@dataclass(frozen=True, slots=True)
class _Settings:
    request_id: str
    created: int
    model: str
    max_output_tokens: int
    echoed: dict[str, Any]
    prompt_tokens_details: bool


_Event = tuple[str, dict[str, Any], dict[str, Any]]
"""Type of an event, its fields before the sequence number, and those between that and the type."""


class ResponsesRendering:
    """One response: a message, or a call of a function."""

    def __init__(self, config: FakeEngineConfig, settings: _Settings, prompt: Prompt, answer: Answer) -> None:
        self._settings = settings
        self._prompt = prompt
        self._answer = answer
        self._escaped = config.vocabulary.escaped
        self._numbers = itertools.count()
        suffix = settings.request_id.removeprefix("resp_")
        self._item_id = f"msg_{suffix}" if answer.tool is None else f"fc_{suffix}"

    def preamble(self) -> bytes:
        """`response.created` and `response.in_progress`, which vLLM sends before the engine has run."""
        response = self._response("in_progress", [], None)
        return self._events(
            [
                ("response.created", {"response": response}, {}),
                ("response.in_progress", {"response": response}, {}),
            ]
        )

    def step(self, index: int, cached: int) -> bytes:
        """A delta event; the first step opens the output item."""
        opening = b"" if index else self._opening()
        delta = self._answer.deltas[index]
        if self._answer.tool is not None:
            fields_ = {"delta": delta, "item_id": self._item_id, "output_index": 0}
            return opening + self._events([("response.function_call_arguments.delta", fields_, {})])
        text = self._escaped.get(delta) or orjson.dumps(delta)[1:-1]
        if not text:
            return opening
        return opening + _DELTA % (text, self._item_id.encode(), next(self._numbers))

    def closing(self, cached: int) -> bytes:
        """What ends the output item, then `response.completed`; there is no `[DONE]` in this family."""
        answer = self._answer
        if answer.tool is None:
            part = self._part(answer.text)
            place = {"content_index": 0, "item_id": self._item_id}
            events: list[_Event] = [
                (
                    "response.output_text.done",
                    place | {"logprobs": [], "output_index": 0},
                    {"text": answer.text},
                ),
                ("response.content_part.done", place | {"output_index": 0, "part": part}, {}),
            ]
        else:
            done = {"arguments": answer.text, "item_id": self._item_id, "output_index": 0}
            events = [("response.function_call_arguments.done", done, {"name": answer.tool.name})]
        item = self._item("completed")
        events.append(("response.output_item.done", {"item": item, "output_index": 0}, {}))
        response = self._response(self._status(), [item], self._usage(cached))
        events.append(("response.completed", {"response": response}, {}))
        return self._events(events)

    def body(self, cached: int) -> bytes:
        """The `response` object."""
        return orjson.dumps(self._response(self._status(), [self._item("completed")], self._usage(cached)))

    def _opening(self) -> bytes:
        added: _Event = (
            "response.output_item.added",
            {"item": self._item("in_progress"), "output_index": 0},
            {},
        )
        if self._answer.tool is not None:
            return self._events([added])
        part = self._part("") | {"logprobs": []}
        place = {"content_index": 0, "item_id": self._item_id, "output_index": 0, "part": part}
        return self._events([added, ("response.content_part.added", place, {})])

    def _events(self, events: Iterable[_Event]) -> bytes:
        out = []
        for kind, before, after in events:
            data = before | {"sequence_number": next(self._numbers)} | after | {"type": kind}
            out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data)))
        return b"".join(out)

    def _status(self) -> str:
        return "incomplete" if self._answer.finish_reason == "length" else "completed"

    @staticmethod
    def _part(text: str) -> dict[str, Any]:
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}

    def _item(self, status: str) -> dict[str, Any]:
        answer = self._answer
        finished = status == "completed"
        if answer.tool is None:
            return {
                "id": self._item_id,
                "content": [self._part(answer.text)] if finished and answer.text else [],
                "role": "assistant",
                "status": status,
                "type": "message",
                "phase": None,
            }
        return {
            "arguments": answer.text if finished else "",
            "call_id": answer.tool.id,
            "name": answer.tool.name,
            "type": "function_call",
            "id": self._item_id,
            "namespace": None,
            "status": status,
        }

    def _usage(self, cached: int) -> dict[str, Any]:
        completion = len(self._answer.tokens)
        return {
            "input_tokens": self._prompt.count,
            "input_tokens_details": {
                "cached_tokens": cached if self._settings.prompt_tokens_details else 0,
                "cache_write_tokens": 0,
                "input_tokens_per_turn": [],
                "cached_tokens_per_turn": [],
            },
            "output_tokens": completion,
            "output_tokens_details": {
                "reasoning_tokens": 0,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": self._prompt.count + completion,
        }

    def _response(self, status: str, output: list[Any], figures: dict[str, Any] | None) -> dict[str, Any]:
        settings, echoed = self._settings, self._settings.echoed
        return {
            "id": settings.request_id,
            "created_at": settings.created,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": echoed["instructions"],
            "metadata": echoed["metadata"],
            "model": settings.model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": echoed["parallel_tool_calls"],
            "temperature": echoed["temperature"],
            "tool_choice": echoed["tool_choice"],
            "tools": echoed["tools"],
            "top_p": echoed["top_p"],
            "background": echoed["background"],
            "max_output_tokens": settings.max_output_tokens,
            "max_tool_calls": echoed["max_tool_calls"],
            "previous_response_id": echoed["previous_response_id"],
            "prompt": None,
            "reasoning": echoed["reasoning"],
            "service_tier": echoed["service_tier"],
            "status": status,
            "text": echoed["text"],
            "top_logprobs": None,
            "truncation": echoed["truncation"],
            "usage": figures,
            "user": echoed["user"],
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }


_DELTA = (
    b'event: response.output_text.delta\ndata: {"content_index":0,"delta":"%b","item_id":"%b","logprobs":[],'
    b'"output_index":0,"sequence_number":%d,"type":"response.output_text.delta"}\n\n'
)
