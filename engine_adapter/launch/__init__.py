"""Start inference workers and keep them running.

`lifecycle` decides (no I/O), `supervisor` drives, `command` says what a worker process is started with.
"""
