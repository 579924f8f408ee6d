"""compose.yaml: well formed, pinned, closed to the outside, and in step with the code it starts."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from engine_adapter.api import read_fleet
from gateway.access.settings import startup_error
from gateway.cli.app import COMMANDS
from gateway.cli.flags import flag_layer
from gateway.settings import Settings, load

Services = dict[str, dict[str, Any]]
Compose = Callable[..., dict[str, Any]]

TOP_LEVEL = {"services", "networks", "volumes"}
SERVICE_KEYS = {
    *(
        "image",
        "build",
        "command",
        "environment",
        "user",
        "init",
        "scale",
        "profiles",
        "deploy",
        "depends_on",
    ),
    *("ports", "expose", "networks", "volumes", "tmpfs", "shm_size"),
    *("read_only", "cap_drop", "security_opt"),
    *("healthcheck", "restart", "stop_grace_period"),
}
"""All of them are known to Compose 1.28 and later as well as to the Compose plugin of Docker."""
STANDS_FOR_A_FOLDER = ("./", "../", "/")


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def gateway_settings(services: Services) -> Settings:
    environment = {k: v for k, v in services["gateway"]["environment"].items() if v is not None}
    return load(None, environment, flag_layer())


def test_only_keys_that_every_compose_knows(compose: Compose) -> None:
    document = compose()
    assert {key for key in document if not key.startswith("x-")} == TOP_LEVEL
    for name, service in document["services"].items():
        assert set(service) <= SERVICE_KEYS, name


def test_the_services_of_the_stack(services: Services) -> None:
    assert set(services) == {"gateway", "worker", "worker-gpu", "valkey", "prometheus", "grafana"}
    assert {name for name, service in services.items() if "profiles" in service} == {"worker-gpu"}


def test_images_are_pinned(services: Services) -> None:
    for name, service in services.items():
        repository, separator, tag = service["image"].rpartition(":")
        assert separator, name
        assert repository, name
        assert re.match(r"v?\d+\.\d+\.\d+", tag), f"{name}: {tag} moves"


def test_own_images_are_built_from_stages_that_exist(services: Services, repository: Path) -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", (repository / "Dockerfile").read_text(), re.MULTILINE))
    built = {name: service["build"] for name, service in services.items() if "build" in service}
    assert set(built) == {"gateway", "worker", "worker-gpu"}
    assert {build["target"] for build in built.values()} == {"gateway", "worker-cpu", "worker-gpu"} & stages


def test_ports_are_published_on_loopback_alone(services: Services) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"gateway", "prometheus", "grafana"}
    for name, ports in published.items():
        for port in ports:
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), f"{name} publishes {port}"


@pytest.mark.parametrize("fleet", ["cpu", "gpu"])
def test_what_is_mounted_from_the_repository_exists(compose: Compose, repository: Path, fleet: str) -> None:
    mounted = 0
    for service in compose(FLEET=fleet)["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith(STANDS_FOR_A_FOLDER):
                assert (repository / source).exists(), source
                assert volume.endswith(":ro"), f"{volume} could be changed from inside"
                mounted += 1
    assert mounted >= 4


def test_names_refer_to_something(compose: Compose) -> None:
    document = compose()
    services = document["services"]
    used_volumes = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
        if not volume.startswith(STANDS_FOR_A_FOLDER)
    }
    assert used_volumes == set(document["volumes"])
    assert {network for service in services.values() for network in service["networks"]} == set(
        document["networks"]
    )
    assert {name for service in services.values() for name in service.get("depends_on", ())} <= set(services)


def test_services_have_few_rights(services: Services) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is (name != "grafana"), name


def test_every_service_has_a_health_check(services: Services) -> None:
    for name, service in services.items():
        check = service["healthcheck"]
        assert check["test"][0] in ("CMD", "CMD-SHELL"), name
        assert seconds(check["timeout"]) < seconds(check["interval"]), name


def test_only_the_outer_services_share_a_network_with_published_ports(services: Services) -> None:
    assert {name for name, service in services.items() if "edge" in service["networks"]} == {
        "gateway",
        "prometheus",
        "grafana",
    }
    assert services["valkey"]["networks"] == ["store"]


def test_the_gateway_starts_with_its_environment(services: Services) -> None:
    settings = gateway_settings(services)
    assert settings.engine.started_workers == 0
    assert startup_error(settings.access, settings.listen.host, usable_keys=0) is None
    assert services["gateway"]["ports"][0].endswith(f":{settings.listen.port}")
    assert f":{settings.listen.port}/health" in services["gateway"]["healthcheck"]["test"][1]


@pytest.mark.parametrize("name", ["gateway", "worker", "worker-gpu"])
def test_passed_on_variables_are_settings(services: Services, name: str) -> None:
    example = {
        "SLUICE_ENGINE__KIND": "fake",
        "SLUICE_ENGINE__ARGS": '["--itl", "0.02"]',
        "SLUICE_RELAY__ALIASES": '{"a": "b"}',
        "SLUICE_KV__ENABLED": "false",
        "SLUICE_ROUTING__POLICY": "prefix",
    }
    environment = {
        key: value if value is not None else example.get(key, "1048576")
        for key, value in services[name]["environment"].items()
        if key.startswith("SLUICE_") and "OTLP" not in key
    }
    assert environment
    load(None, environment, flag_layer())


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_workers_keep_their_kv_in_the_valkey_of_the_stack(services: Services, name: str) -> None:
    environment = {k: v for k, v in services[name]["environment"].items() if v is not None}
    valkey = load(None, environment, flag_layer()).kv.valkey
    assert valkey is not None
    assert valkey.url == f"redis://valkey:{services['valkey']['expose'][0]}/0"
    assert set(services["valkey"]["networks"]) <= set(services[name]["networks"])


def test_the_gateway_is_given_the_time_that_its_drain_takes(services: Services) -> None:
    drain = gateway_settings(services).relay.drain_seconds
    assert seconds(services["gateway"]["stop_grace_period"]) >= drain + 5


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_worker_commands_are_ones_that_sluice_understands(services: Services, name: str) -> None:
    command, *arguments = shlex.split(services[name]["command"])
    context = get_command(importlib.import_module(COMMANDS[command]).app).make_context(command, arguments)
    assert context.params["host"] == "0.0.0.0"
    assert str(context.params["port"]) in services[name]["expose"]
    assert f":{context.params['port']}/health" in services[name]["healthcheck"]["test"][1]


@pytest.mark.parametrize(("fleet", "service"), [("cpu", "worker"), ("gpu", "worker-gpu")])
def test_fleet_files_point_at_the_services(
    repository: Path, services: Services, fleet: str, service: str
) -> None:
    (info,) = read_fleet(repository / "deploy" / "fleet" / f"{fleet}.json")
    assert info.id == service
    command = services[service]["command"]
    for option, url in (
        ("--port ", info.url),
        ("--kv-events tcp://*:", info.kv_events),
        ("--kv-replay tcp://*:", info.kv_replay),
    ):
        scheme, host, port = re.fullmatch(r"(\w+)://([\w-]+):(\d+)", str(url)).groups()  # type: ignore[union-attr]
        assert host == service
        assert option + port in command


def test_the_gpu_environment_swaps_the_workers(compose: Compose, gpu_variables: dict[str, str]) -> None:
    services = compose(**gpu_variables)["services"]
    assert services["worker"]["scale"] == 0
    assert gpu_variables["COMPOSE_PROFILES"] in services["worker-gpu"]["profiles"]
    assert any("fleet/gpu.json" in volume for volume in services["gateway"]["volumes"])


def test_the_gpus_are_asked_for_as_the_specification_says(services: Services) -> None:
    (reserved,) = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in services["worker"]


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
@pytest.mark.parametrize("tool", [("docker-compose",), ("docker", "compose")], ids=" ".join)
def test_the_tools_take_the_file(repository: Path, tool: tuple[str, ...], profile: str) -> None:
    if (
        shutil.which(tool[0]) is None
        or subprocess.run((*tool, "version"), capture_output=True).returncode != 0
    ):
        pytest.skip(f"{' '.join(tool)} is not installed")
    environment = ("--env-file", str(repository / "deploy" / "gpu.env")) if profile == "gpu" else ()
    command = (*tool, *environment, "-f", str(repository / "compose.yaml"), "config")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)["services"]
    assert "sluice-gateway" in resolved["gateway"]["image"]
    if profile == "gpu":
        (device,) = resolved["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert resolved["worker-gpu"]["build"]["target"] == "worker-gpu"
