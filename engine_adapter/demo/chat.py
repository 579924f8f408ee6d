"""The chat template, and the same rendering in Python for training.

A conversation is a flat sequence of segments, each opened by a role token and closed by `<|end|>`::

    <|bos|><|system|>…<|end|><|document|>Title\\n…<|end|><|user|>…<|end|><|assistant|>…<|end|>

Because role tokens are special, every segment is tokenized on its own, so tokens of a document do not
depend on what stands before it: the property that makes cached documents composable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
ROLES = ("system", "document", "user", "assistant")
SPECIAL_TOKENS = (PAD, BOS, END, *(f"<|{role}|>" for role in ROLES))

CHAT_TEMPLATE = (
    "{{- '<|bos|>' -}}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] in ['system', 'developer'] -%}\n"
    "{{- '<|system|>' + (message['content'] or '') | trim + '<|end|>' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- for document in documents or [] -%}\n"
    "{%- set title = document.get('title') -%}\n"
    "{%- set text = document.get('text') or document.get('content') or '' -%}\n"
    "{{- '<|document|>' + (title + '\\n' if title else '') + text | trim + '<|end|>' -}}\n"
    "{%- endfor -%}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] not in ['system', 'developer'] -%}\n"
    "{%- set role = 'assistant' if message['role'] == 'assistant' else\n"
    "                'document' if message['role'] in ['document', 'tool'] else 'user' -%}\n"
    "{{- '<|' + role + '|>' + (message['content'] or '') | trim + '<|end|>' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}\n"
)
"""Jinja template for `chat_template.jinja`; takes `messages`, optional `documents` with `title` and
`text`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One message or document."""

    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is unknown; use one of {', '.join(ROLES)}")


def render(segments: Iterable[Segment], *, generation_prompt: bool = False) -> str:
    """The prompt text, equal to what the template renders."""
    body = "".join(f"<|{s.role}|>{s.text.strip()}{END}" for s in segments)
    return f"{BOS}{body}{'<|assistant|>' if generation_prompt else ''}"


def as_request(segments: Sequence[Segment]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """`messages` and `documents` of a chat request that renders to the same prompt."""
    messages = [{"role": s.role, "content": s.text} for s in segments if s.role != "document"]
    documents = [{"text": s.text} for s in segments if s.role == "document"]
    return messages, documents
