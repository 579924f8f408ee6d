"""What the official client raises when the worker misbehaves: always an error, never half an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

HELLO: list[Any] = [{"role": "user", "content": "Hello."}]


@pytest.fixture(scope="module")
def troubled(start_sluice: Callable[..., Any]) -> Iterator[Any]:
    """One worker with one place, one place to wait, and breakers that stay closed."""
    environment = {
        "SLUICE_RELAY__ADMISSION__PER_WORKER": "1",
        "SLUICE_RELAY__ADMISSION__QUEUE": "1",
        "SLUICE_RELAY__HEALTH__BREAKER_FAILURES": "1000",
    }
    sluice = start_sluice("--", "--answer-tokens=16", "--itl=0.001", env=environment)
    yield sluice
    sluice.stop()


@pytest.fixture(scope="module")
def troubled_client(troubled: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{troubled.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def _ask(client: openai.OpenAI, fault: str, **fields: Any) -> Any:
    headers = {"x-fake-fault": fault, **fields.pop("headers", {})}
    return client.chat.completions.create(model="fake", messages=HELLO, extra_headers=headers, **fields)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_worker_that_hangs_up(troubled_client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        _ask(troubled_client, "cut; point=before-headers", stream=stream)
    assert caught.value.status_code == 502
    assert caught.value.code == "worker_failed"
    assert "worker-0" in caught.value.message


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_worker_that_says_nothing(troubled_client: openai.OpenAI, stream: bool) -> None:
    patience = {"x-sluice-timeout-first-byte": "0.3"}
    with pytest.raises(openai.InternalServerError) as caught:
        _ask(troubled_client, "hang; point=before-headers", stream=stream, headers=patience)
    assert caught.value.status_code == 504
    assert caught.value.code == "worker_timeout"


def test_a_worker_that_talks_nonsense(troubled_client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        _ask(troubled_client, "framing; framing=both")
    assert caught.value.status_code == 502


def test_a_workers_own_error_comes_through(troubled_client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="The GPU is on fire.") as caught:
        _ask(troubled_client, "status; status=503; retry_after=7; message=The GPU is on fire.")
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["x-sluice-worker"] == "worker-0"


@pytest.mark.parametrize(
    "fault",
    [
        "cut; point=event; after_events=4",
        "cut; point=event; after_events=4; reset=true",
        "cut; point=mid-chunk; after_events=4",
        "truncate; after_events=4",
        "framing; framing=bad-chunk; after_events=4",
        "error-event; after_events=4",
    ],
)
def test_a_stream_that_breaks_off_is_an_error(troubled_client: openai.OpenAI, fault: str) -> None:
    stream = _ask(troubled_client, fault, stream=True)
    chunks = []
    with pytest.raises(openai.APIError) as caught:
        chunks.extend(stream)
    assert caught.value.message
    assert not any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


def test_a_whole_answer_that_breaks_off_is_no_answer(troubled_client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        _ask(troubled_client, "cut; point=mid-body")


def test_a_full_queue_is_told_at_once(troubled: Any, troubled_client: openai.OpenAI) -> None:
    """One request runs, one waits, one is refused; those two are answered."""
    slow = "slow; first_s=1.5"
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(_ask, troubled_client, slow) for _ in range(2)]

        def gauge(name: str) -> bool:
            return f"{name} 1.0" in troubled.get("/metrics").text

        troubled.until(lambda: gauge("sluice_queued_requests"), "one request waited")
        with pytest.raises(openai.RateLimitError) as caught:
            _ask(troubled_client, slow)
        assert all(answer.result().choices for answer in answers)
    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["retry-after"]) > 0
