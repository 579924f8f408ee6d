"""The deployment files, read once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]

Compose = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:-default}` as compose replaces it. A variable without a default is a mistake of ours."""

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        assert default is not None, f"${{{name}}} has no default, so a fresh clone would not come up"
        return variables.get(name) or default

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, text)


@pytest.fixture(scope="session")
def compose() -> Compose:
    """compose.yaml as a function of its variables."""
    text = (REPOSITORY / "compose.yaml").read_text()

    def read(**variables: str) -> dict[str, Any]:
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
        document: dict[str, Any] = yaml.safe_load(interpolate("\n".join(lines), variables))
        return document

    return read


@pytest.fixture(scope="session")
def services(compose: Compose) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


@pytest.fixture(scope="session")
def gpu_variables() -> dict[str, str]:
    """What deploy/gpu.env sets."""
    lines = (REPOSITORY / "deploy" / "gpu.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="session")
def prometheus() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((REPOSITORY / "deploy/prometheus/prometheus.yml").read_text())
    return document


@pytest.fixture(scope="session")
def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((REPOSITORY / "deploy/grafana/dashboards/sluice.json").read_text())
    return document
