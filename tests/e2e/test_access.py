"""API keys and limits, as a client meets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

BODY_BYTES = 50_000
HELLO: list[Any] = [{"role": "user", "content": "Hello."}]


def _key(file: Path, name: str, *flags: str) -> str:
    """Make a key by the command that users type; its secret."""
    command = [sys.executable, "-m", "gateway", "key", "create", name, "--file", str(file), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def secret(key_file: Path) -> str:
    return _key(key_file, "app")


@pytest.fixture(scope="module")
def guarded(start_sluice: Callable[..., Any], key_file: Path, secret: str) -> Iterator[Any]:
    """A gateway that asks for keys and takes small bodies only."""
    sluice = start_sluice(
        "--api-key-file", str(key_file), env={"SLUICE_RELAY__LIMITS__BODY_BYTES": str(BODY_BYTES)}
    )
    yield sluice
    sluice.stop()


def _client(guarded: Any, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0)


def test_a_known_key(guarded: Any, secret: str) -> None:
    with _client(guarded, secret) as client:
        assert client.models.list().data[0].id == "fake"
        answer = client.chat.completions.create(model="fake", messages=HELLO, max_tokens=2)
    assert answer.choices[0].message.content


def test_anthropics_client_sends_its_key_in_another_header(guarded: Any, secret: str) -> None:
    with anthropic.Anthropic(base_url=guarded.url, api_key=secret, max_retries=0) as client:
        assert client.messages.create(model="fake", messages=HELLO, max_tokens=2).content
    with (
        anthropic.Anthropic(base_url=guarded.url, api_key="wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        client.messages.create(model="fake", messages=HELLO, max_tokens=2)
    assert caught.value.type == "authentication_error"


def test_a_wrong_key(guarded: Any) -> None:
    with _client(guarded, "sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="fake", messages=HELLO)
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/tokenize"])
def test_no_key(guarded: Any, path: str) -> None:
    answer = guarded.post(path, {"model": "fake"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "missing_api_key"
    assert answer.headers["x-request-id"]


def test_a_key_for_some_models_only(guarded: Any, key_file: Path) -> None:
    """Made while the gateway runs: it notices without a restart."""
    limited = _key(key_file, "limited", "--model", "another")
    headers = {"authorization": f"Bearer {limited}"}
    guarded.until(
        lambda: guarded.get("/v1/models", headers=headers).status_code == 200, "the new key was noticed"
    )
    assert guarded.get("/v1/models", headers=headers).json()["data"] == []
    with _client(guarded, limited) as client, pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(model="fake", messages=HELLO)
    assert caught.value.code == "model_not_allowed"


def test_health_is_open_but_tells_strangers_little(guarded: Any, secret: str) -> None:
    (worker,) = guarded.health()["workers"]
    assert worker["state"] == "ready"
    assert "url" not in worker
    known = guarded.get("/health", headers={"authorization": f"Bearer {secret}"}).json()
    assert known["workers"][0]["url"].startswith("http://127.0.0.1:")


def test_a_body_over_the_limit(guarded: Any, secret: str) -> None:
    long: list[Any] = [{"role": "user", "content": "x" * BODY_BYTES}]
    with _client(guarded, secret) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="fake", messages=long)
    assert caught.value.status_code == 413
    assert caught.value.code == "request_too_large"
    assert str(BODY_BYTES) in caught.value.message


def test_a_body_over_the_limit_whose_length_is_not_told(guarded: Any, secret: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_BYTES // 1000 + 1):
            yield b" " * 1000

    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    url = f"{guarded.url}/v1/chat/completions"
    answer = httpx.post(url, content=pieces(), headers=headers, timeout=60, verify=False)
    assert answer.status_code == 413
