"""Harnesses for coverage-guided fuzzing. Each has `one(data)`, which fails on no bytes whatever.

`python -m tests.fuzz` runs them all, `make fuzz` for a minute each; `tests/unit/fuzz` replays their corpora.
"""
