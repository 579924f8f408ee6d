"""`/v1/completions`: requests, whole answers and event streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine_adapter.fake.answers import Answer
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.tokens import Prompt
from engine_adapter.fake.wire import fields, tools
from engine_adapter.fake.wire.chat import FINGERPRINT
from engine_adapter.fake.wire.errors import malformed
from engine_adapter.fake.wire.generation import DONE, Generation, Origin, final_usage, usage

DEFAULT_MAX_TOKENS = 16
"""vLLM's, and OpenAI's, default of `max_tokens` on this endpoint."""


@dataclass(slots=True)
class CompletionOptions:
    """What the request asks of the answer's form."""

    include_usage: bool = False
    continuous_usage: bool = False
    logprobs: int | None = None
    echo: bool = False
    return_token_ids: bool = False
    prompt_tokens_details: bool = True

    @property
    def plain(self) -> bool:
        """Events are nothing but text, so a template renders them."""
        return not (self.continuous_usage or self.logprobs is not None or self.echo or self.return_token_ids)


def parse(config: FakeEngineConfig, body: fields.Body, origin: Origin) -> Generation:
    """Understand a completion request; raises ApiError."""
    value = body.get("prompt")
    if value is None or value == "":
        raise malformed(
            "value_error",
            "prompt",
            "Value error, Either prompt or prompt_embeds must be provided and non-empty.",
        )
    prompts = fields.text_prompts(value, "prompt")
    model = fields.served_model(config, body)
    streaming, include_usage, continuous = fields.stream_options(body)
    n = fields.choices_wanted(body)
    seed = fields.optional(body, "seed", int, 0)
    max_tokens = fields.optional(body, "max_tokens", int, DEFAULT_MAX_TOKENS)
    request_id = f"cmpl-{origin.request_id}"
    answers = [
        tools.compose(
            config,
            prompt,
            fields.answer_limits(config, body, prompt, max_tokens),
            n=n,
            seed=seed,
            call_id="",
            schema=tools.output_schema(body),
            choice=tools.output_choice(body),
        )
        for prompt in prompts
    ]
    logprobs = body.get("logprobs")
    options = CompletionOptions(
        include_usage=include_usage,
        continuous_usage=continuous,
        logprobs=None if logprobs is None else fields.required(body, "logprobs", int),
        echo=fields.optional(body, "echo", bool, False),
        return_token_ids=fields.optional(body, "return_token_ids", bool, False),
        prompt_tokens_details=config.prompt_tokens_details,
    )
    rendering = CompletionRendering(config, request_id, origin.created, model.name, prompts, answers, options)
    scope = fields.cache_scope(config, model, body)
    return Generation(request_id, model.name, prompts, answers, streaming, rendering, scope)


class CompletionRendering:
    """A text completion: the choices of every prompt, numbered through."""

    def __init__(
        self,
        config: FakeEngineConfig,
        request_id: str,
        created: int,
        model: str,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[Answer]],
        options: CompletionOptions,
    ) -> None:
        self._id = request_id
        self._created = created
        self._model = model
        self._options = options
        self._escaped = config.vocabulary.escaped
        self._choices = [
            (prompt, answer) for prompt, group in zip(prompts, answers, strict=True) for answer in group
        ]
        opening = (
            b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":[{"index":'
            % (
                orjson.dumps(request_id),
                created,
                orjson.dumps(model),
            )
        )
        self._texts = [opening + b'%d,"text":"' % number for number in range(len(self._choices))]
        self._prompt_tokens = sum(prompt.count for prompt in prompts)
        self._completion_tokens = sum(len(answer.tokens) for _, answer in self._choices)

    def preamble(self) -> bytes:
        """Nothing: the first event waits for the first token."""
        return b""

    def step(self, index: int, cached: int) -> bytes:
        """One event per choice."""
        events = []
        for number, (prompt, answer) in enumerate(self._choices):
            last = len(answer.tokens) - 1
            if index > last:
                continue
            if self._options.plain and (text := self._escaped.get(answer.deltas[index])):
                if index < last:
                    events.append(self._texts[number] + text + _UNFINISHED)
                else:
                    events.append(self._texts[number] + text + self._finished(answer))
            else:
                events.append(self._built(number, prompt, answer, index))
        return b"".join(events)

    def closing(self, cached: int) -> bytes:
        """The usage event, if asked for, and `[DONE]`."""
        if not self._options.include_usage:
            return DONE
        figures = final_usage(self._prompt_tokens, self._completion_tokens, self._cached(cached))
        chunk = self._chunk([]) | {"usage": figures, "system_fingerprint": FINGERPRINT}
        return b"data: " + orjson.dumps(chunk) + b"\n\n" + DONE

    def body(self, cached: int) -> bytes:
        """The `text_completion` object."""
        options = self._options
        choices = []
        for number, (prompt, answer) in enumerate(self._choices):
            choices.append(
                {
                    "index": number,
                    "text": prompt.text() + answer.text if options.echo else answer.text,
                    "logprobs": self._logprobs(answer, 0, len(answer.tokens)),
                    "finish_reason": answer.finish_reason,
                    "stop_reason": answer.stop_reason,
                    "token_ids": answer.token_ids() if options.return_token_ids else None,
                    "prompt_logprobs": None,
                    "prompt_token_ids": prompt.ids() if options.return_token_ids else None,
                    "routed_experts": None,
                }
            )
        return orjson.dumps(
            {
                "id": self._id,
                "object": "text_completion",
                "created": self._created,
                "model": self._model,
                "choices": choices,
                "service_tier": None,
                "system_fingerprint": FINGERPRINT,
                "usage": usage(self._prompt_tokens, self._completion_tokens, self._cached(cached)),
                "kv_transfer_params": None,
                "ec_transfer_params": None,
                "metrics": None,
            }
        )

    def _cached(self, cached: int) -> int | None:
        return cached if self._options.prompt_tokens_details else None

    def _finished(self, answer: Answer) -> bytes:
        stop_reason = b"null" if answer.stop_reason is None else orjson.dumps(answer.stop_reason)
        tail = b"}]}\n\n" if self._options.include_usage else _FINGERPRINTED
        return (
            b'","logprobs":null,"finish_reason":"%b","stop_reason":%b,%b'
            % (
                answer.finish_reason.encode(),
                stop_reason,
                _NO_IDS,
            )
            + tail
        )

    def _built(self, number: int, prompt: Prompt, answer: Answer, index: int) -> bytes:
        options = self._options
        last = index == len(answer.tokens) - 1
        text = answer.deltas[index]
        if options.echo and index == 0:
            text = prompt.text() + text
        choice = {
            "index": number,
            "text": text,
            "logprobs": self._logprobs(answer, index, index + 1),
            "finish_reason": answer.finish_reason if last else None,
            "stop_reason": answer.stop_reason if last else None,
            "prompt_token_ids": prompt.ids() if options.return_token_ids and index == 0 else None,
            "token_ids": answer.token_ids()[index : index + 1] if options.return_token_ids else None,
        }
        chunk = self._chunk([choice])
        if options.continuous_usage:
            chunk["usage"] = {
                "prompt_tokens": prompt.count,
                "total_tokens": prompt.count + index + 1,
                "completion_tokens": index + 1,
            }
        if last and not options.include_usage:
            chunk["system_fingerprint"] = FINGERPRINT
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def _logprobs(self, answer: Answer, start: int, end: int) -> dict[str, Any] | None:
        wanted = self._options.logprobs
        if wanted is None:
            return None
        offsets, position = [], sum(map(len, answer.tokens[:start]))
        for token in answer.tokens[start:end]:
            offsets.append(position)
            position += len(token)
        return {
            "text_offset": offsets,
            "token_logprobs": [answer.logprob(index) for index in range(start, end)],
            "tokens": answer.tokens[start:end],
            "top_logprobs": [dict(answer.top_logprobs(index, max(1, wanted))) for index in range(start, end)],
        }


_NO_IDS = b'"prompt_token_ids":null,"token_ids":null'
_UNFINISHED = b'","logprobs":null,"finish_reason":null,"stop_reason":null,' + _NO_IDS + b"}]}\n\n"
_FINGERPRINTED = b'}],"system_fingerprint":"%b"}\n\n' % FINGERPRINT.encode()
