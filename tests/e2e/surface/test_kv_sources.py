"""Where a prompt's KV came from, in answers of a real worker, and the KV layer's control by the gateway."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytestmark = [pytest.mark.vllm]


@pytest.fixture(scope="module")
def gateway(vllm_sluice: Any) -> Any:
    return vllm_sluice


@pytest.fixture(scope="module")
def asking(gateway: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture(scope="module")
def served(gateway: Any) -> str:
    name: str = gateway.model()
    return name


def conversation() -> list[Any]:
    """Long enough for whole chunks, and never asked before."""
    facts = " ".join(f"The {word} of Ada is {word}." for word in ("boss", "town", "job", "food", "day") * 8)
    return [{"role": "user", "content": f"{uuid.uuid4().hex} {facts} Where does Ada live?"}]


def sources_of(usage: Any) -> dict[str, int]:
    found: dict[str, int] = usage.model_extra["sluice"]["kv"]
    return found


def test_an_answer_says_where_its_prompt_came_from(asking: openai.OpenAI, served: str) -> None:
    messages = conversation()
    first = asking.chat.completions.with_raw_response.create(model=served, messages=messages, max_tokens=2)
    cold = first.parse().usage
    assert cold is not None
    assert sources_of(cold)["computed"] == cold.prompt_tokens
    assert first.headers["x-sluice-kv"] == f"computed={cold.prompt_tokens}"

    again = asking.chat.completions.create(model=served, messages=messages, max_tokens=2)
    assert again.usage is not None
    warm = sources_of(again.usage)
    assert warm["engine"] >= 32
    assert sum(warm.values()) == again.usage.prompt_tokens


def test_so_does_a_stream_that_is_asked_for_usage(asking: openai.OpenAI, served: str) -> None:
    stream = asking.chat.completions.create(
        model=served,
        messages=conversation(),
        max_tokens=4,
        stream=True,
        stream_options={"include_usage": True},
    )
    usages = [chunk.usage for chunk in stream if chunk.usage is not None]
    assert sum(sources_of(usages[-1]).values()) == usages[-1].prompt_tokens


def test_the_gateway_asks_and_steers_the_layer(gateway: Any, asking: openai.OpenAI, served: str) -> None:
    messages = conversation()
    asking.chat.completions.create(model=served, messages=messages, max_tokens=2)
    body = {"messages": messages}

    def kept() -> Any:
        (found,) = gateway.post("/admin/cache/lookup", body).json()["workers"].values()
        return found if found["done"] else None

    gateway.until(lambda: kept() is not None, "the prompt was saved")
    assert list(kept()["tiers"]) == ["memory"]
    assert gateway.get("/admin/cache").json()["tiers"]["memory"]["chunks"] >= kept()["done"]
    pinned = gateway.post("/admin/cache/pin", {**body, "owner": "test", "seconds": 60}).json()
    assert [outcome["done"] for outcome in pinned["workers"].values()] == [kept()["done"]]
    gateway.post("/admin/cache/unpin", {**body, "owner": "test"})
    cleared = gateway.post("/admin/cache/clear", body).json()
    assert [outcome["done"] for outcome in cleared["workers"].values()] == [
        pinned["workers"]["worker-0"]["done"]
    ]
    assert kept() is None
