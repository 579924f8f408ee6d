"""Two tenants with the same prompt before one real worker: neither sees that the other has asked it, in the
engine's cache or in the KV layer, unless both have opted in to sharing."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.vllm]

KEYS = {
    "alice": ("--tenant", "acme"),
    "another-of-acme": ("--tenant", "acme"),
    "bob": ("--tenant", "other"),
    "sharing-of-acme": ("--tenant", "acme", "--shares-cache"),
    "sharing-of-other": ("--tenant", "other", "--shares-cache"),
}
Ask = Callable[[str, str], dict[str, int]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The file of keys, and their secrets by name."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    secrets = {}
    for name, flags in KEYS.items():
        command = [sys.executable, "-m", "gateway", "key", "create", name, "--file", str(file), *flags]
        made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        secrets[name] = made.stdout.strip()
    return file, secrets


@pytest.fixture(scope="module")
def ask(
    vllm_sluice: Any, start_sluice: Callable[..., Any], keys: tuple[Path, dict[str, str]]
) -> Iterator[Ask]:
    """`ask(name, text)`: where the prompt's KV came from, in tokens, for one of the keys."""
    file, secrets = keys
    (worker,) = vllm_sluice.worker_urls()
    gateway = start_sluice("--worker-url", worker, "--api-key-file", str(file), engine="vllm", ready=False)
    gateway.until_ready(120)
    model = vllm_sluice.model()

    def asking(name: str, text: str) -> dict[str, int]:
        body = {"model": model, "prompt": text, "max_tokens": 2, "temperature": 0}
        answer = gateway.post("/v1/completions", body, headers={"authorization": f"Bearer {secrets[name]}"})
        usage = answer.raise_for_status().json()["usage"]
        sources = {source: tokens for source, tokens in usage["sluice"]["kv"].items() if tokens}
        assert sum(sources.values()) == usage["prompt_tokens"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - sources["computed"]
        said = dict(part.split("=") for part in answer.headers["x-sluice-kv"].split(", "))
        assert {source: int(tokens) for source, tokens in said.items()} == sources
        return sources

    yield asking
    gateway.stop()


def secret_document() -> str:
    """Never asked before."""
    return f"{uuid.uuid4().hex} " + " ".join(
        f"Item {number} costs {number * 37 % 100}." for number in range(40)
    )


def test_what_one_tenant_asked_is_cold_for_another(ask: Ask) -> None:
    document = secret_document()
    first = ask("alice", document)
    assert first.keys() == {"computed"}
    assert ask("bob", document) == first
    assert ask("sharing-of-other", document) == first
    own = ask("another-of-acme", document)
    assert own["engine"] >= 32
    assert own["computed"] < first["computed"]


def test_those_who_opt_in_share_with_each_other_and_with_nobody_else(ask: Ask) -> None:
    document = secret_document()
    first = ask("sharing-of-acme", document)
    assert first.keys() == {"computed"}
    assert ask("sharing-of-other", document)["engine"] >= 32
    assert ask("alice", document) == first
    assert ask("bob", document) == first
