"""Runs in the image for GPUs, without one: what of vLLM's GPU build can be tried with a stub for the driver.

The driver's library, which a container gets from its host, is replaced by one whose functions all fail, so
that vLLM's and Triton's extension modules can be loaded. Nothing is computed on a device.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
DRIVER = "libcuda.so.1"
CUDA_ERROR_NO_DEVICE = 100


def make_stub(folder: Path) -> None:
    """A `libcuda.so.1` with every function of the driver that something here is linked to."""
    names: set[str] = set()
    for library in (*SITE.glob("vllm/**/*.so"), *SITE.glob("torch/lib/*.so"), *SITE.glob("triton/**/*.so")):
        listed = subprocess.run(
            ("nm", "-D", "--undefined-only", str(library)), capture_output=True, text=True
        )
        names |= set(re.findall(r" U (cu[A-Z]\w+)$", listed.stdout, re.MULTILINE))
    launcher = SITE / "triton" / "backends" / "nvidia" / "driver.c"
    names |= set(re.findall(r"\b(cu[A-Z]\w+)\(", launcher.read_text()))
    source = folder / "stub.c"
    source.write_text("".join(f"int {name}(void) {{ return {CUDA_ERROR_NO_DEVICE}; }}\n" for name in names))
    build = ("gcc", "-shared", "-fPIC", f"-Wl,-soname,{DRIVER}", "-o", str(folder / DRIVER), str(source))
    subprocess.run(build, check=True)


def self_test() -> str:
    """`sluice doctor`'s test of vLLM's internals, with the platform named by hand."""
    import torch
    import vllm.platforms as platforms
    from vllm.platforms.cuda import CudaPlatform

    from engine_adapter.vllm import pin

    platforms._current_platform = CudaPlatform()
    found = pin.installed()
    broken = pin.broken_promises(found)
    assert not broken, broken
    assert torch.version.cuda == pin.CUDA_VERSION, torch.version.cuda
    oldest = torch._C._cuda_getArchFlags().split()[0]
    assert oldest == "sm_{}{}".format(*pin.CUDA_CAPABILITY), oldest
    versions = f"{found.distribution} {found.version}, torch {torch.__version__} from {oldest} on"
    return f"{versions}: {len(pin.relied_on(found))} promises kept"


def compile_kernel() -> str:
    """A kernel for Hopper, and the C module through which Triton launches it."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.driver import CudaUtils
    from triton.compiler import ASTSource

    @triton.jit  # type: ignore[untyped-decorator]
    def twice(x, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(x + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)

    signature = {"x": "*fp32", "n": "i32", "BLOCK": "constexpr"}
    compiled = triton.compile(ASTSource(twice, signature, {(2,): 128}), target=GPUTarget("cuda", 90, 32))
    assert CudaUtils().launch is not None
    return f"Triton {triton.__version__}: {len(compiled.asm['cubin'])} bytes for sm_90, and its launcher"


def main() -> None:
    if "STUB" not in os.environ:
        folder = tempfile.mkdtemp()
        make_stub(Path(folder))
        os.execve(
            sys.executable,
            (sys.executable, __file__),
            {**os.environ, "STUB": folder, "LD_LIBRARY_PATH": folder},
        )
    print(self_test())
    print(compile_kernel())


if __name__ == "__main__":
    main()
