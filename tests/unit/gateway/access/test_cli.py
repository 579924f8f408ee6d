from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from gateway.access.cli import app
from gateway.access.keys import KeyRing

run = CliRunner().invoke


def test_create_list_revoke(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.json")
    created = run(app, ["create", "ann", "--file", file, "--model", "small", "--admin"])
    assert created.exit_code == 0, created.output
    secret = created.stdout.strip()
    key = KeyRing(Path(file)).check(b"Bearer " + secret.encode())
    assert key is not None
    assert (key.name, key.models, key.admin) == ("ann", ("small",), True)

    listed = run(app, ["list", "--file", file])
    assert key.id in listed.stdout
    assert "in force" in listed.stdout
    assert secret not in listed.stdout
    assert key.hash not in listed.stdout

    assert run(app, ["revoke", "ann", "--file", file]).exit_code == 0
    assert "revoked" in run(app, ["list", "--file", file]).stdout
    assert run(app, ["revoke", "ann", "--file", file]).exit_code == 1


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    result = run(app, ["list", "--file", str(tmp_path / "none.json")])
    assert result.exit_code == 1
    assert result.output.strip().endswith("none.json: no such file")
