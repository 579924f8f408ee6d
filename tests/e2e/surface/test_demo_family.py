"""The models that ship, in the real engine: they read the documents of a request, and each of them loads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from engine_adapter.demo.cli import app
from engine_adapter.demo.family import folder

pytestmark = pytest.mark.vllm

REPORT = {"title": "Report", "text": "Ada lives in Dunham. Ben works as a baker. The lamp is made of brass."}
OTHER = {"title": "Letter", "text": "Clara plays the violin. Dmitri has a goat."}


@pytest.fixture(scope="module")
def drafted_sluice(start_sluice: Any) -> Iterator[Any]:
    """`clerk`, with `draft` proposing its tokens: one engine start loads both."""
    speculation = {"method": "draft_model", "model": str(folder("draft")), "num_speculative_tokens": 3}
    sluice = start_sluice(
        *("--model", str(folder("clerk")), "--", f"--speculative-config={json.dumps(speculation)}"),
        engine="vllm",
    )
    yield sluice
    sluice.stop()


def _ask(sluice: Any, question: str, documents: list[dict[str, str]]) -> str:
    with openai.OpenAI(base_url=f"{sluice.url}/v1", api_key="unused", max_retries=0, timeout=300) as client:
        answer = client.chat.completions.create(
            model=sluice.model(),
            messages=[{"role": "user", "content": question}],
            max_tokens=60,
            temperature=0,
            extra_body={"documents": documents},
        )
    return answer.choices[0].message.content or ""


def test_documents_of_a_request_are_read(vllm_sluice: Any) -> None:
    """`documents` reach the chat template, and the answer comes from them."""
    assert _ask(vllm_sluice, "Where does Ada live?", [REPORT, OTHER]) == "Ada lives in Dunham."
    assert _ask(vllm_sluice, "What pet does Dmitri have?", [OTHER, REPORT]) == "Dmitri has a goat."
    assert "Dunham" not in _ask(vllm_sluice, "Where does Ada live?", [OTHER])


def test_the_bench_scores_a_server_as_it_scores_the_model(vllm_sluice: Any, tmp_path: Path) -> None:
    """In bfloat16 through gateway and engine, in float32 by the plain decoder: near ties may flip."""
    pytest.importorskip("torch")
    right = []
    for flags in ([], ["--url", vllm_sluice.url]):
        out = tmp_path / f"{len(right)}.json"
        sizes = ["--task", "one_hop", "--length", "128", "--cases", "8", "--control", "2"]
        done = CliRunner().invoke(app, ["eval", "--model", "base", *sizes, "--json", str(out), *flags])
        assert done.exit_code == 0, done.output
        (score,) = json.loads(out.read_text())["scores"]
        assert score["of"] == 8
        assert score["without_evidence"] <= 0.5
        right.append(score["right"])
    assert abs(right[0] - right[1]) <= 2
    assert right[0] >= 5


def test_clerk_fills_a_form_with_tokens_that_draft_proposed(
    drafted_sluice: Any, metric: Callable[..., float]
) -> None:
    reply = _ask(drafted_sluice, 'Describe Ada as JSON with the keys "name", "town".', [REPORT])
    assert json.loads(reply) == {"name": "Ada", "town": "Dunham"}
    (worker,) = drafted_sluice.worker_urls()
    proposed = metric(worker, "vllm:spec_decode_num_draft_tokens_total")
    accepted = metric(worker, "vllm:spec_decode_num_accepted_tokens_total")
    assert 0 < accepted <= proposed
