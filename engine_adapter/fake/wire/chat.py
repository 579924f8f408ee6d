"""`/v1/chat/completions`: requests, whole answers and event streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine_adapter.fake.answers import Answer
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.tokens import Prompt
from engine_adapter.fake.wire import fields, tools
from engine_adapter.fake.wire.errors import malformed
from engine_adapter.fake.wire.generation import DONE, Generation, Origin, final_usage, token_bytes, usage

FINGERPRINT = "vllm-0.32.0-fake0000"
"""`system_fingerprint`: which server wrote the answer."""


@dataclass(slots=True)
class ChatOptions:
    """What the request asks of the answer's form."""

    include_usage: bool = False
    continuous_usage: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    return_token_ids: bool = False
    required_tool: bool = False
    """The model had to call a tool of its choice: the finish reason is then `tool_calls`."""
    prompt_tokens_details: bool = True

    @property
    def plain(self) -> bool:
        """Events are nothing but text, so a template renders them."""
        return not (self.continuous_usage or self.logprobs or self.return_token_ids)


def parse(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand a chat request; raises ApiError."""
    messages = fields.required(body, "messages", list)
    model = fields.served_model(config, body)
    streaming, include_usage, continuous = fields.stream_options(body)
    given_tools = fields.optional(body, "tools", list, [])
    if "tools" in body and given_tools == [] and body["tools"] is not None:
        raise malformed("value_error", "tools", "Value error, `tools` must not be an empty array.")
    functions = tools.chat_functions(given_tools)
    function = tools.forced_function(body.get("tool_choice"), functions)
    logprobs = fields.optional(body, "logprobs", bool, False)
    top_logprobs = fields.optional(body, "top_logprobs", int, 0)
    if top_logprobs and not logprobs:
        raise malformed(
            "value_error",
            "top_logprobs",
            "Value error, when using `top_logprobs`, `logprobs` must be set to true.",
        )
    fields.optional(body, "temperature", float, 0.0)
    prompt = fields.chat_prompt(
        messages, given_tools or None, generation=fields.optional(body, "add_generation_prompt", bool, True)
    )
    asked = fields.optional(body, "max_completion_tokens", int, fields.optional(body, "max_tokens", int, 0))
    limits = fields.answer_limits(config, body, prompt, None if _absent(body) else asked)
    request_id = f"chatcmpl-{origin.request_id}"
    answers = tools.compose(
        config,
        prompt,
        limits,
        n=fields.choices_wanted(body),
        seed=fields.optional(body, "seed", int, 0),
        call_id=f"chatcmpl-tool-{origin.request_id}",
        function=function,
        schema=tools.output_schema(body),
        choice=tools.output_choice(body),
    )
    options = ChatOptions(
        include_usage=include_usage,
        continuous_usage=continuous,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        return_token_ids=fields.optional(body, "return_token_ids", bool, False),
        required_tool=body.get("tool_choice") == "required",
        prompt_tokens_details=config.prompt_tokens_details,
    )
    rendering = ChatRendering(config, request_id, origin.created, model.name, prompt, answers, options)
    scope = fields.cache_scope(config, model, body)
    return Generation(request_id, model.name, [prompt], [answers], streaming, rendering, scope)


def _absent(body: fields.Body) -> bool:
    return body.get("max_completion_tokens") is None and body.get("max_tokens") is None


class ChatRendering:
    """A chat answer. Text-only events are cut from a template; everything else is built and dumped."""

    def __init__(
        self,
        config: FakeEngineConfig,
        request_id: str,
        created: int,
        model: str,
        prompt: Prompt,
        answers: Sequence[Answer],
        options: ChatOptions,
    ) -> None:
        self._id = request_id
        self._created = created
        self._model = model
        self._prompt = prompt
        self._answers = answers
        self._options = options
        self._escaped = config.vocabulary.escaped
        self._opening = b""
        self._texts: list[bytes] = []
        """Per choice, an event up to its text; made when the first event is."""
        self._completion_tokens = sum(len(answer.tokens) for answer in answers)

    def preamble(self) -> bytes:
        """Nothing: vLLM's first event waits for the first token."""
        return b""

    def step(self, index: int, cached: int) -> bytes:
        """One event per choice; the first step opens with the role events."""
        events = [] if index else self._opened()
        for number, answer in enumerate(self._answers):
            last = len(answer.tokens) - 1
            if index > last:
                continue
            if (
                self._options.plain
                and answer.tool is None
                and (text := self._escaped.get(answer.deltas[index]))
            ):
                if index < last:
                    events.append(self._texts[number] + text + _UNFINISHED)
                else:
                    events.append(self._texts[number] + text + self._finished(answer))
            else:
                events.append(self._built(number, answer, index))
        return b"".join(events)

    def closing(self, cached: int) -> bytes:
        """The usage event, if asked for, and `[DONE]`."""
        if not self._options.include_usage:
            return DONE
        figures = final_usage(self._prompt.count, self._completion_tokens, self._cached(cached))
        return (
            b"data: "
            + orjson.dumps(self._chunk([]) | {"usage": figures, "system_fingerprint": FINGERPRINT})
            + (b"\n\n" + DONE)
        )

    def body(self, cached: int) -> bytes:
        """The `chat.completion` object."""
        options = self._options
        return orjson.dumps(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "choices": [self._choice(number, answer) for number, answer in enumerate(self._answers)],
                "service_tier": None,
                "system_fingerprint": FINGERPRINT,
                "usage": usage(self._prompt.count, self._completion_tokens, self._cached(cached)),
                "prompt_logprobs": None,
                "prompt_token_ids": self._prompt.ids() if options.return_token_ids else None,
                "prompt_text": None,
                "kv_transfer_params": None,
                "ec_transfer_params": None,
                "metrics": None,
            }
        )

    def _cached(self, cached: int) -> int | None:
        return cached if self._options.prompt_tokens_details else None

    def _choice(self, number: int, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text if answer.tool is None else "",
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        if answer.tool is not None:
            function = {"name": answer.tool.name, "arguments": answer.text}
            message["tool_calls"] = [{"id": answer.tool.id, "type": "function", "function": function}]
        message["reasoning"] = None
        return {
            "index": number,
            "message": message,
            "logprobs": self._logprobs(answer, range(len(answer.tokens))),
            "finish_reason": self._finish_reason(answer),
            "stop_reason": answer.stop_reason,
            "token_ids": answer.token_ids() if self._options.return_token_ids else None,
            "routed_experts": None,
        }

    def _finish_reason(self, answer: Answer) -> str:
        called = answer.tool is not None and self._options.required_tool and answer.finish_reason == "stop"
        return "tool_calls" if called else answer.finish_reason

    def _finished(self, answer: Answer) -> bytes:
        stop_reason = b"null" if answer.stop_reason is None else orjson.dumps(answer.stop_reason)
        tail = b"}]}\n\n" if self._options.include_usage else _FINGERPRINTED
        return (
            b'"},"logprobs":null,"finish_reason":"%b","stop_reason":%b,"token_ids":null'
            % (
                answer.finish_reason.encode(),
                stop_reason,
            )
            + tail
        )

    def _opened(self) -> list[bytes]:
        """Make the templates; returns the events that open each choice."""
        self._opening = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[{'
            % (orjson.dumps(self._id), self._created, orjson.dumps(self._model))
        )
        numbers = range(len(self._answers))
        self._texts = [self._opening + b'"index":%d,"delta":{"content":"' % number for number in numbers]
        return [self._role(number) for number in numbers]

    def _role(self, number: int) -> bytes:
        if self._options.plain:
            return self._opening + b'"index":%d,%b' % (number, _ROLE)
        delta = {"role": "assistant", "content": ""}
        chunk = self._chunk([{"index": number, "delta": delta, "logprobs": None, "finish_reason": None}])
        if self._options.continuous_usage:
            chunk["usage"] = self._running_usage(0)
        chunk["prompt_token_ids"] = self._prompt.ids() if self._options.return_token_ids else None
        chunk["prompt_text"] = None
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _built(self, number: int, answer: Answer, index: int) -> bytes:
        delta: dict[str, Any] = {"content": answer.deltas[index]}
        if answer.tool is not None:
            delta = {"tool_calls": [_call_delta(answer, index)]}
        choice: dict[str, Any] = {
            "index": number,
            "delta": delta,
            "logprobs": self._logprobs(answer, range(index, index + 1)),
            "finish_reason": None,
        }
        last = index == len(answer.tokens) - 1
        if last:
            choice["finish_reason"] = self._finish_reason(answer)
            choice["stop_reason"] = answer.stop_reason
        choice["token_ids"] = (
            answer.token_ids()[index : index + 1] if self._options.return_token_ids else None
        )
        chunk = self._chunk([choice])
        if self._options.continuous_usage:
            chunk["usage"] = self._running_usage(index + 1)
        if last and not self._options.include_usage:
            chunk["system_fingerprint"] = FINGERPRINT
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def _running_usage(self, completion_tokens: int) -> dict[str, Any]:
        return {
            "prompt_tokens": self._prompt.count,
            "total_tokens": self._prompt.count + completion_tokens,
            "completion_tokens": completion_tokens,
            "completion_tokens_details": None,
        }

    def _logprobs(self, answer: Answer, indices: range) -> dict[str, Any] | None:
        if not self._options.logprobs:
            return None
        return {
            "content": [
                {
                    "token": answer.tokens[index],
                    "logprob": answer.logprob(index),
                    "bytes": token_bytes(answer.tokens[index]),
                    "top_logprobs": [
                        {"token": token, "logprob": value, "bytes": token_bytes(token)}
                        for token, value in answer.top_logprobs(index, self._options.top_logprobs)
                    ],
                }
                for index in indices
            ]
        }


_UNFINISHED = b'"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
_FINGERPRINTED = b'}],"system_fingerprint":"%b"}\n\n' % FINGERPRINT.encode()
_ROLE = (
    b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
    b'"prompt_token_ids":null,"prompt_text":null}\n\n'
)


def _call_delta(answer: Answer, index: int) -> dict[str, Any]:
    """One piece of a tool call: the first event names it, every event adds arguments."""
    assert answer.tool is not None
    function = {"arguments": answer.deltas[index]}
    if index:
        return {"index": 0, "function": function}
    return {
        "id": answer.tool.id,
        "type": "function",
        "index": 0,
        "function": {"name": answer.tool.name} | function,
    }
