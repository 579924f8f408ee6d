"""Forced tool calls and structured output: when the answer is not free text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine_adapter.fake.answers import (
    Answer,
    Limits,
    ToolCall,
    answer_key,
    fixed_answer,
    json_answer,
    text_answer,
)
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.json_instance import SchemaError
from engine_adapter.fake.tokens import Prompt
from engine_adapter.fake.wire.errors import ApiError, malformed

Function = Mapping[str, Any]
"""`{"name": …, "parameters": schema}`, whatever family it came in."""


def forced_function(tool_choice: Any, functions: Sequence[Function]) -> Function | None:
    """The function that `tool_choice` forces, OpenAI chat form; None if the model is free.

    Raises ApiError if the choice is not understood or names no given tool.
    """
    if tool_choice is None or tool_choice in ("none", "auto"):
        return None
    if not functions:
        raise malformed(
            "value_error", "tool_choice", "Value error, When using `tool_choice`, `tools` must be set."
        )
    if tool_choice == "required":
        return functions[0]
    named = tool_choice.get("function") if isinstance(tool_choice, dict) else None
    if not isinstance(named, dict) or not isinstance(named.get("name"), str):
        raise malformed(
            "value_error",
            "tool_choice",
            f"Value error, Invalid value for `tool_choice`: {tool_choice}! "
            'Only named tools, "none", "auto" or "required" are supported.',
        )
    for function in functions:
        if function["name"] == named["name"]:
            return function
    raise malformed(
        "value_error",
        "tool_choice",
        "Value error, The tool specified in `tool_choice` does not match any of the specified `tools`",
    )


def chat_functions(tools: Sequence[Any]) -> list[Function]:
    """The functions among OpenAI chat tools; raises ApiError for a tool without a named function."""
    functions = [tool.get("function") if isinstance(tool, dict) else None for tool in tools]
    for number, function in enumerate(functions):
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise malformed("missing", f"tools.{number}.function.name", "Field required")
    return [function for function in functions if function is not None]


def output_schema(body: Mapping[str, Any]) -> Any:
    """The JSON schema that `response_format` or `structured_outputs` demands; None if the text is free."""
    structured = body.get("structured_outputs")
    if isinstance(structured, dict) and structured.get("json") is not None:
        return structured["json"]
    response_format = body.get("response_format")
    if not isinstance(response_format, dict):
        return None
    match response_format.get("type"):
        case "json_object":
            return {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
        case "json_schema":
            wrapper = response_format.get("json_schema")
            if not isinstance(wrapper, dict):
                raise malformed(
                    "value_error",
                    "response_format",
                    "Value error, When response_format type is 'json_schema', the 'json_schema' field "
                    "must be provided.",
                )
            return wrapper.get("schema", True)
    return None


def output_choice(body: Mapping[str, Any]) -> str | None:
    """The first of `structured_outputs.choice`, which the answer then is."""
    structured = body.get("structured_outputs")
    choice = structured.get("choice") if isinstance(structured, dict) else None
    return str(choice[0]) if isinstance(choice, list) and choice else None


def compose(
    config: FakeEngineConfig,
    prompt: Prompt,
    limits: Limits,
    *,
    n: int,
    seed: int,
    call_id: str,
    function: Function | None = None,
    schema: Any = None,
    choice: str | None = None,
) -> list[Answer]:
    """The `n` choices that answer `prompt`: a `function` call, an instance of `schema`, `choice`, or words.

    Raises ApiError if a schema is beyond the fake engine.
    """
    answers = []
    for index in range(n):
        key = answer_key(prompt, config.seed + seed, index)
        try:
            if function is not None:
                tool = ToolCall(f"{call_id}{index:x}", function["name"])
                parameters = function.get("parameters") or {"type": "object"}
                answer = json_answer(parameters, config.vocabulary, key, limits, tool)
            elif schema is not None:
                answer = json_answer(schema, config.vocabulary, key, limits)
            elif choice is not None:
                answer = fixed_answer(choice, limits)
            else:
                answer = text_answer(config.vocabulary, key, limits)
        except SchemaError as error:
            raise ApiError(f"The fake engine cannot fill this JSON schema: {error}") from error
        answers.append(answer)
    return answers
