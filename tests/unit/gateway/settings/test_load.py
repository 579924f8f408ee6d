"""Settings in layers, and how a mistake in any of them is reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Layer, SettingsError, env_layer, merge, yaml_layer
from gateway.settings import Settings, known_paths, load

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        file = tmp_path / "sluice.yaml"
        file.write_text(text)
        return file

    return to_file


def flags(**values: object) -> Layer:
    layer = Layer()
    for path, value in values.items():
        layer.put(tuple(path.split("__")), value, f"--{path.split('__')[-1]}")
    return layer


def problems(
    file: Path | None, environ: dict[str, str] | None = None, layer: Layer | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(file, environ or {}, layer or Layer())
    return list(caught.value.problems)


def test_nothing_given_is_valid() -> None:
    assert load(None, {}, Layer()) == Settings()
    assert Settings().listen.host == "127.0.0.1"


def test_flags_win_over_environment_and_that_over_the_file(write: Write) -> None:
    file = write("listen: {host: a, port: 1, processes: 2}\n")
    environ = {"SLUICE_LISTEN__PORT": "3", "SLUICE_LISTEN__PROCESSES": "4"}
    settings = load(file, environ, flags(listen__processes=5))
    assert (settings.listen.host, settings.listen.port, settings.listen.processes) == ("a", 3, 5)


def test_a_deeper_section_is_merged_not_replaced(write: Write) -> None:
    file = write("relay:\n  timeouts:\n    connect: 1\n    queue: 2\n")
    settings = load(file, {"SLUICE_RELAY__TIMEOUTS__QUEUE": "7.5"}, Layer())
    assert (settings.relay.timeouts.connect, settings.relay.timeouts.queue) == (1.0, 7.5)


def test_aliases_of_file_and_flags_are_joined(write: Write) -> None:
    file = write("relay:\n  aliases: {gpt-4o: base}\n")
    settings = load(file, {}, flags(relay__aliases={"gpt-4o-mini": "base"}))
    assert settings.relay.aliases == {"gpt-4o": "base", "gpt-4o-mini": "base"}


def test_lists_and_mappings_in_the_environment_are_json() -> None:
    environ = {
        "SLUICE_ENGINE__WORKER_URLS": '["http://a:1", "http://b:2"]',
        "SLUICE_RELAY__ALIASES": '{"GPT": "base"}',
    }
    settings = load(None, environ, Layer())
    assert settings.engine.worker_urls == ("http://a:1", "http://b:2")
    assert settings.relay.aliases == {"GPT": "base"}


def test_a_number_that_is_meant_as_text_stays_text() -> None:
    assert load(None, {"SLUICE_ENGINE__SERVED_NAME": "7"}, Layer()).engine.served_name == "7"


def test_variables_of_others_are_left_alone() -> None:
    environ = {"SLUICE_CONFIG": "x", "SLUICE_PORT": "tcp://10.0.0.1:80", "HOME": "/root", "OTHER__X": "1"}
    assert env_layer(environ).values == {}


def test_a_wrong_type_names_file_and_line(write: Write) -> None:
    file = write("listen:\n  host: a\n  # the port\n  port: http\n")
    (problem,) = problems(file)
    assert problem.startswith(f"{file}:4: listen.port: ")
    assert "'http'" in problem


def test_a_value_that_is_refused_names_its_line(write: Write) -> None:
    file = write("listen:\n  host: a\n  port: 99999\n")
    (problem,) = problems(file)
    assert problem == f"{file}:3: listen: port must lie in 0..65535, got 99999"


def test_a_wrong_variable_is_named() -> None:
    (problem,) = problems(None, {"SLUICE_LISTEN__PORT": "http"})
    assert problem.startswith("SLUICE_LISTEN__PORT: listen.port: ")


def test_a_wrong_flag_is_named(write: Write) -> None:
    (problem,) = problems(write("listen:\n  port: 80\n"), {}, flags(listen__port="http"))
    assert problem.startswith("--port: listen.port: ")


def test_an_unknown_key_gets_the_nearest_known_one(write: Write) -> None:
    file = write("listen:\n  prot: 1\n")
    assert problems(file) == [f"{file}:2: there is no setting listen.prot (did you mean port?)"]


def test_dashes_are_understood_as_a_slip(write: Write) -> None:
    (problem,) = problems(write("engine:\n  max-model-len: 1\n"))
    assert "did you mean max_model_len" in problem


def test_a_key_at_the_wrong_place_gets_its_path(write: Write) -> None:
    file = write("port: 1\n")
    assert problems(file) == [f"{file}:1: there is no setting port (did you mean listen.port?)"]


def test_an_unknown_section_in_the_environment_is_an_error() -> None:
    (problem,) = problems(None, {"SLUICE_LISTN__PORT": "1"})
    assert problem == "SLUICE_LISTN__PORT: there is no setting listn (did you mean listen?)"


def test_all_mistakes_are_reported_together(write: Write) -> None:
    file = write("listen:\n  port: a\nengine:\n  workers: b\n  nonsense: 1\n")
    lines = [problem.split(":")[1] for problem in problems(file)]
    assert lines == ["2", "4", "5"]


def test_broken_yaml_names_the_line(write: Write) -> None:
    file = write("listen:\n  port: [1\nengine: 2\n")
    (problem,) = problems(file)
    assert problem.startswith(f"{file}:3: not valid YAML")


def test_a_key_that_is_set_twice_is_an_error(write: Write) -> None:
    file = write("listen:\n  port: 1\n  host: a\n  port: 2\n")
    assert problems(file) == [f"{file}:4: listen.port is set twice, first at {file}:2"]


@pytest.mark.parametrize("text", ["- a\n", "just words\n"])
def test_a_file_without_sections_is_refused(write: Write, text: str) -> None:
    (problem,) = problems(write(text))
    assert "expected sections" in problem


def test_an_empty_file_is_a_file_without_settings(write: Write) -> None:
    assert load(write("# nothing yet\n"), {}, Layer()) == Settings()


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path / "absent.yaml")
    assert "No such file" in problem


def test_a_section_cannot_be_a_value_too() -> None:
    (problem,) = problems(None, {"SLUICE_LISTEN__PORT": "1", "SLUICE_LISTEN__PORT__X": "2"})
    assert "SLUICE_LISTEN__PORT__X: listen.port is set as a value already" in problem


def test_yaml_anchors_work(write: Write) -> None:
    file = write("listen: &l\n  port: 7\n  host: a\nengine:\n  env: {A: b}\n")
    assert load(file, {}, Layer()).engine.env == {"A": "b"}


def test_merging_keeps_the_place_of_the_winner(write: Write) -> None:
    file = write("listen: {port: 1}\n")
    merged = merge([yaml_layer(file), flags(listen__port=2)])
    assert merged.places[("listen", "port")] == "--port"


def test_every_section_can_be_reached() -> None:
    paths = set(known_paths())
    assert {("listen", "port"), ("engine", "kind"), ("relay", "timeouts", "connect")} <= paths


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("engine: {block_size: 33}", "multiple of 32"),
        ("engine: {workers: -1}", "workers must be at least 0"),
        ("engine: {worker_urls: [ftp://x]}", "is not a URL like"),
        ("engine: {worker_urls: ['http://x', 'http://x']}", "same worker twice"),
        ("engine: {fleet_file: f, workers: 1}", "lists all workers"),
        ("engine: {port_base: 80}", "port_base must lie in"),
        ("supervision: {give_up_after: 0}", "give_up_after must be at least 1"),
        ("supervision: {stop_grace: 0}", "stop_grace must be above 0"),
        ("listen: {tls_cert: c.pem}", "belong together"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_words(write: Write, text: str, words: str) -> None:
    (problem,) = problems(write(text))
    assert words in problem
