"""A real vLLM engine in a process of its own, which tests ask one thing after the other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

PATIENCE = 300.0
"""Seconds for one call; an engine's start on a busy machine takes the longest."""

Lab = Callable[..., Any]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """`lab(function, ...)` runs a function of `loadtests.kv.lab` in the child."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            return pool.submit(function, *arguments, **named).result(PATIENCE)

        yield call
        from loadtests.kv import lab as functions

        call(functions.stop)
