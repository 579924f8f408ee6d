from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.cli.settings import attribute_docs, reference
from gateway.config import Layer, SettingsError
from gateway.settings import Settings, known_paths, load

runner = CliRunner()


@dataclass(frozen=True)
class Example:
    plain: int = 1
    explained: int = 2
    """How many
    there are."""


def test_explanations_are_those_of_the_source() -> None:
    assert attribute_docs(Example) == {"explained": "How many there are."}


def test_the_reference_is_a_settings_file_that_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "sluice.yaml"
    file.write_text("\n".join(reference(Settings())))
    assert load(file, {}, Layer()) == Settings()


def test_every_setting_is_listed() -> None:
    text = "\n".join(reference(Settings()))
    assert all(f"{path[-1]}:" in text for path in known_paths())


def test_what_was_set_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sluice.yaml"
    file.write_text("listen:\n  processes: 3\n")
    monkeypatch.setenv("SLUICE_LISTEN__PORT", "9000")
    result = runner.invoke(app, ["settings", "--config", str(file)])
    assert result.exit_code == 0
    assert "  port: 9000  # SLUICE_LISTEN__PORT" in result.output
    assert f"  processes: 3  # {file}:2" in result.output


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sluice.yaml"
    file.write_text("listen: {port: x}\n")
    result = runner.invoke(app, ["settings", "--config", str(file)])
    assert result.exit_code == 2
    assert f"{file}:1: listen.port" in result.output


PAGE = Path(__file__).parents[4] / "docs" / "settings.md"


@pytest.mark.parametrize("more", [[], ["--markdown"]])
def test_a_file_that_is_not_there_is_said(tmp_path: Path, more: list[str]) -> None:
    result = runner.invoke(app, ["settings", "--config", str(tmp_path / "missing.yaml"), *more])
    assert result.exit_code != 0
    assert "cannot read the settings file" in result.output


def test_words_for_booleans_are_the_same_in_every_section(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("yes", "on", "1", "TRUE", "t", "y"):
        found = load(None, {"SLUICE_KV__ENABLED": word, "SLUICE_TELEMETRY__ACCESS_LOG": word}, Layer())
        assert (found.kv.enabled, found.telemetry.access_log) == (True, True)
    with pytest.raises(SettingsError, match="SLUICE_KV__ENABLED"):
        load(None, {"SLUICE_KV__ENABLED": "perhaps"}, Layer())


def test_the_page_of_all_settings_is_up_to_date() -> None:
    result = runner.invoke(app, ["settings", "--markdown"])
    assert result.exit_code == 0
    assert PAGE.read_text() == result.output, "run `sluice settings --markdown > docs/settings.md`"


def test_the_page_has_every_setting() -> None:
    rows = set(re.findall(r"^\| \*?`([\w.]+)`", PAGE.read_text(), re.MULTILINE))
    paths = list(known_paths())
    values = [
        path for path in paths if not any(other[: len(path)] == path for other in paths if other != path)
    ]
    assert rows == {".".join(path[1:]) for path in values}
    assert {f"## {path[0]}" for path in paths} <= set(PAGE.read_text().splitlines())
