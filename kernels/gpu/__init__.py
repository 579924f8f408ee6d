"""GPU kernels in Triton: the functions of `kernels.cpu` under the same names, on tensors in device memory.

Triton compiles at the first call; `TRITON_INTERPRET=1`, set before triton is imported, runs them on a CPU,
which is how they are tested where no GPU is. Tiles must have sides that are powers of two, as engines' do.
"""
