"""Ways to put a conversation to a model: in process, or through the OpenAI API of any engine or gateway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx

from engine_adapter.demo.bench import Answer
from engine_adapter.demo.chat import END, Segment, as_request, render

REPLY_LIMIT = 160
SHIPPED_AS = "sluice-{model}"
"""How `sluice serve` names a model of the family that it serves by default."""


def in_process(folder: Path) -> Answer:
    """A model folder run by the plain torch decoder of this package (needs torch)."""
    from engine_adapter.demo.checkpoint import load_model
    from engine_adapter.demo.generate import greedy
    from engine_adapter.demo.tokenizer import load_tokenizer, special_id

    model, tokenizer = load_model(folder), load_tokenizer(folder)
    end = special_id(tokenizer, END)

    def answer(segments: Sequence[Segment]) -> str:
        prompt = tokenizer.encode(render(segments, generation_prompt=True), add_special_tokens=False).ids
        reply: str = tokenizer.decode(greedy(model, prompt, end=end, limit=REPLY_LIMIT))
        return reply

    return answer


class OpenAIAnswerer:
    """Chat completions at temperature 0 from `url` (with or without the trailing `/v1`)."""

    def __init__(self, url: str, model: str, *, key: str | None = None, timeout: float = 120.0) -> None:
        base = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=base, headers=headers, timeout=timeout)
        self._model = model

    @property
    def model(self) -> str:
        """The name that requests carry."""
        return self._model

    def find_model(self) -> None:
        """Take the name under which the server has the model; `LookupError` if it has none such."""
        response = self._client.get("/v1/models")
        response.raise_for_status()
        served = [str(entry["id"]) for entry in response.json()["data"]]
        likely = (self._model, SHIPPED_AS.format(model=self._model), Path(self._model).name)
        names = [name for name in likely if name in served]
        if not names:
            others = ", ".join(served) or "none"
            raise LookupError(f"the server has no model {self._model!r}; it has {others}")
        self._model = names[0]

    def __enter__(self) -> OpenAIAnswerer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def __call__(self, segments: Sequence[Segment]) -> str:
        """Reply to a conversation; raises `httpx.HTTPStatusError` if the server refuses."""
        messages, documents = as_request(segments)
        body: dict[str, object] = {
            "model": self._model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": REPLY_LIMIT,
        }
        if documents:
            body["documents"] = documents
        response = self._client.post("/v1/chat/completions", json=body)
        response.raise_for_status()
        content: str = response.json()["choices"][0]["message"]["content"] or ""
        return content
