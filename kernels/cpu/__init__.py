"""CPU kernels: numba, compiled when a module is imported (or read from numba's cache), without the GIL."""
