"""Where tables lie: files named by codec and fingerprint, in a few folders."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from cache.calibration.tables import BadTables, Tables, fingerprint
from cache.codecs.codec import MissingTables

SHIPPED = Path(__file__).parent / "shipped"
SUFFIX = ".tables"


def user_folder() -> Path:
    """Where `sluice codec train` puts tables."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "sluice" / "codecs"


class Library:
    """Tables in some folders. Files are read when they are asked for, and checked against their name."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._read = lru_cache(maxsize=64)(_read)

    def tables(self, kind: str, digest: bytes) -> Tables:
        """The tables of a codec with this fingerprint; raises MissingTables."""
        name = f"{kind}-{digest.hex()}{SUFFIX}"
        for folder in self._folders:
            path = folder / name
            if path.is_file():
                try:
                    return self._read(path)
                except BadTables as error:
                    raise MissingTables(f"{path} is damaged: {error}") from error
        places = ", ".join(str(folder) for folder in self._folders)
        raise MissingTables(
            f"no {kind} tables {digest.hex()} in {places}: copy them there, or recode without"
        )

    def files(self) -> list[Path]:
        """All tables files, shipped ones first."""
        return [path for folder in self._folders for path in sorted(folder.glob(f"*{SUFFIX}"))]

    def for_model(self, kind: str, weights: str) -> bytes | None:
        """Fingerprint of the newest tables of a codec for a model, or None."""
        found = [path for path in self.files() if path.name.startswith(f"{kind}-")]
        for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
            try:
                if self._read(path).weights == weights:
                    return _digest(path)
            except BadTables:
                continue
        return None


def default_library() -> Library:
    """What ships, and what was trained on this machine."""
    return _DEFAULT


def write(tables: Tables, folder: Path) -> Path:
    """Write tables under their name; returns the file."""
    data = tables.to_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{tables.kind}-{fingerprint(data).hex()}{SUFFIX}"
    draft = path.with_suffix(".part")
    draft.write_bytes(data)
    draft.replace(path)
    return path


def _digest(path: Path) -> bytes:
    return bytes.fromhex(path.stem.rpartition("-")[2])


def _read(path: Path) -> Tables:
    data = path.read_bytes()
    if fingerprint(data) != _digest(path):
        raise BadTables("its bytes are not those that its name promises")
    return Tables.from_bytes(data)


_DEFAULT = Library((SHIPPED, user_folder()))
