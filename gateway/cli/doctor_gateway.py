"""What `sluice doctor` looks at in the gateway: page, keys, optional libraries, workers elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import httpx

from engine_adapter.doctor import Finding
from gateway.access.keys import KeyRing
from gateway.access.settings import startup_error
from gateway.api.routes.pages import find_page
from gateway.settings import Settings

_PROBE_SECONDS = 5.0


def check_page() -> Finding:
    """Is the chat page built?"""
    directory = find_page()
    if directory is None:
        remedy = "install Node 20 or newer, then `make page` in the checkout"
        return Finding("page", "warn", "the chat page is not built; the API works without it", remedy)
    return Finding("page", "ok", f"built, in {directory}")


def check_access(settings: Settings) -> Finding:
    """Would the gateway refuse to listen there for want of API keys?"""
    file = settings.access.key_file
    try:
        keys = 0 if file is None else len(KeyRing(file))
    except (OSError, ValueError) as error:
        remedy = f"make one with `sluice key create NAME --file {file}`, or leave --api-key-file out"
        return Finding("keys", "fail", f"the key file cannot be used: {error}", remedy)
    if problem := startup_error(settings.access, settings.listen.host, keys):
        text, _, remedy = problem.partition(": ")
        return Finding("keys", "fail", text, remedy)
    if file is None:
        return Finding("keys", "ok", f"none asked for on {settings.listen.host}")
    return Finding("keys", "ok", f"{keys} in {file}")


def _is_here(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def check_extras(settings: Settings, is_here: Callable[[str], bool] = _is_here) -> Iterator[Finding]:
    """Libraries of optional features that these settings ask for. `is_here`: can a module be imported?"""
    if settings.realtime.enabled and not is_here("aiortc"):
        text = "WebRTC is not installed, so streams go over HTTP alone"
        remedy = "`pip install 'sluice[webrtc]'`, or set realtime.enabled to false"
        yield Finding("webrtc", "warn", text, remedy)
    starts_vllm = settings.engine.started_workers > 0 and settings.engine.kind == "vllm"
    needs = (
        ("kv.valkey", starts_vllm and settings.kv.valkey is not None, "valkey", "kv"),
        ("kv.object", starts_vllm and settings.kv.object is not None, "obstore", "kv"),
        ("streams.valkey_url", bool(settings.streams.valkey_url), "valkey", "valkey"),
        (
            "telemetry.otlp_endpoint",
            settings.telemetry.otlp_endpoint is not None,
            "opentelemetry.sdk",
            "otel",
        ),
    )
    for setting, is_set, module, extra in needs:
        if is_set and not (is_here(module.partition(".")[0]) and is_here(module)):
            text = f"{setting} is set, but the library {module} is not installed"
            yield Finding(setting, "fail", text, f"`pip install 'sluice[{extra}]'`, or leave the setting out")


def check_workers_elsewhere(settings: Settings) -> Iterator[Finding]:
    """Does each vLLM server that somebody else runs answer `/health`?"""
    for url in settings.engine.worker_urls:
        try:
            status = httpx.get(f"{url.rstrip('/')}/health", timeout=_PROBE_SECONDS).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = f"{url} does not answer: {error or type(error).__name__}"
            remedy = (
                "start it (`vllm serve MODEL --host 0.0.0.0`, or `sluice worker`), or correct --worker-url"
            )
            yield Finding("worker", "fail", text, remedy)
            continue
        if status == 200:
            yield Finding("worker", "ok", f"{url} answers")
        else:
            remedy = "look at its own log; --worker-url wants the address of vLLM's server, without a path"
            yield Finding("worker", "warn", f"{url}/health says {status}", remedy)
