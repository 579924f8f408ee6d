"""Is this machine fit to run workers? Each check is a function from what it needs to findings; every
finding that is not `ok` says what to do."""

from engine_adapter.doctor.engine import check_engine, check_engine_internals
from engine_adapter.doctor.finding import Finding
from engine_adapter.doctor.machine import (
    check_disk,
    check_gpu,
    check_memory,
    check_open_files,
    check_package_names,
    check_platform,
    check_port,
    check_python,
)
from engine_adapter.doctor.model import check_model

__all__ = [
    "Finding",
    "check_disk",
    "check_engine",
    "check_engine_internals",
    "check_gpu",
    "check_memory",
    "check_model",
    "check_open_files",
    "check_package_names",
    "check_platform",
    "check_port",
    "check_python",
]
