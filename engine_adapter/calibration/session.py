"""A loaded model with everything that calibration and the bench do to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from cache.calibration import library
from cache.calibration.quality import Measured
from cache.calibration.tables import Tables, fingerprint
from cache.codecs import registry
from cache.codecs.calibrated import Calibrated
from cache.codecs.codec import Codec
from cache.codecs.droppers import RULES
from engine_adapter.calibration import ablation, bench
from engine_adapter.calibration.contexts import BENCH_SEED, CALIBRATION_SEED, Context, texts, worlds
from engine_adapter.calibration.train import Statistics, gather, tables_for
from engine_adapter.demo.chat import END
from engine_adapter.demo.checkpoint import load_model
from engine_adapter.demo.model import Llama
from engine_adapter.demo.tokenizer import load_tokenizer, special_id
from engine_adapter.vllm import weights

Seen = Callable[[int], None]
LabelledCodec = tuple[str, Codec]


@dataclass(frozen=True, slots=True)
class Session:
    """A model of the Llama family, its tokenizer and its folder."""

    folder: Path
    model: Llama
    tokenizer: Tokenizer

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1) -> Session:
        torch.set_num_threads(threads)
        return cls(folder, load_model(folder), load_tokenizer(folder))

    def train(
        self, files: Sequence[Path], number: int, lengths: Sequence[int], *, seen: Seen
    ) -> list[Tables]:
        """Tables of all calibrated codecs, fitted on text files or, without any, on made-up worlds."""
        return list(tables_for(self.model, self.folder, self._statistics(files, number, lengths, seen)))

    def checked(
        self, made: Sequence[Tables], files: Sequence[Path], number: int, *, seen: Seen
    ) -> list[Tables]:
        """The same tables with what was measured on other contexts written beside every level."""
        codecs = [(name, _codec(tables, name)) for tables in made for name in tables.levels]
        contexts = self._contexts(files, number, (512, 1024, 2048), BENCH_SEED + 500_000)
        rows = iter(self._run(codecs, contexts, 256, seen))
        return [
            replace(
                tables,
                levels={
                    name: replace(level, quality=next(rows).record()) for name, level in tables.levels.items()
                },
            )
            for tables in made
        ]

    def write(self, made: Sequence[Tables], folder: Path) -> list[Path]:
        """Write tables to a folder. In the folder that ships they replace all others of their codec."""
        written = [library.write(tables, folder) for tables in made]
        if folder == library.SHIPPED:
            for path in set(folder.glob(f"*{library.SUFFIX}")) - set(written):
                path.unlink()
        return written

    def codecs(self) -> list[LabelledCodec]:
        """Every codec and every level of the tables at hand for this model, and the baselines."""
        from engine_adapter.calibration.baselines import ReleasedCacheGen, Zstd

        made: list[LabelledCodec] = [("raw", registry.make("raw"))]
        with suppress(ImportError):
            made.append(("zstd on raw", Zstd()))
        made += [("lossless", registry.make("lossless")), ("fp8", registry.make("fp8"))]
        for name, bits in (("int8", 8), ("int4", 4), ("int4", 3), ("int2", 2)):
            made.append((f"uniform {bits} bit", registry.make(name, {"k_bits": bits, "v_bits": bits})))
        made.append(("CacheGen as released", ReleasedCacheGen()))
        for kind in ("cachegen", "weir"):
            digest = library.default_library().for_model(kind, self.weights)
            if digest is not None:
                levels = library.default_library().tables(kind, digest).levels
                made += [
                    (f"{kind} {level}", registry.make(kind, {"tables": digest, "level": level}))
                    for level in sorted(
                        levels, key=lambda level: _ORDER.index(level) if level in _ORDER else 9
                    )
                ]
        return made

    def dropping(self) -> list[LabelledCodec]:
        """Every rule for dropping tokens at several shares, what is kept kept exactly."""
        return [
            (
                f"{rule}, {share:.0%} kept",
                registry.make("dropped", {"rule": rule, "keep": share, "inner": "raw"}),
            )
            for rule in RULES
            for share in (0.5, 0.25, 0.1)
        ]

    def variants(self, number: int, *, seen: Seen) -> list[LabelledCodec]:
        """Variants of the calibrated codecs, each without one of its parts."""
        statistics = self._statistics((), number, (512, 1024, 2048), seen)
        return [
            (f"{label} {level}", _codec(tables, level))
            for label, tables in ablation.variants(self.model, statistics)
            for level in tables.levels
        ]

    def measure(
        self,
        codecs: Sequence[LabelledCodec],
        number: int,
        lengths: Sequence[int],
        *,
        chunk_tokens: int,
        seen: Seen,
    ) -> list[Measured]:
        """Measure codecs on held-out worlds; 0 `chunk_tokens` for whole contexts."""
        return self._run(codecs, self._contexts((), number, lengths, BENCH_SEED), chunk_tokens, seen)

    @property
    def weights(self) -> str:
        """Fingerprint of the model's weights, as tables and namespaces name it."""
        return weights.fingerprint(self.folder).hex()[:32]

    def _statistics(
        self, files: Sequence[Path], number: int, lengths: Sequence[int], seen: Seen
    ) -> Statistics:
        return gather(self.model, self._contexts(files, number, lengths, CALIBRATION_SEED), seen=seen)

    def _contexts(
        self, files: Sequence[Path], number: int, lengths: Sequence[int], seed: int
    ) -> Iterator[Context]:
        if files:
            return texts(self.tokenizer, files, number, max(lengths), seed)
        return worlds(self.tokenizer, number, lengths, seed)

    def _run(
        self, codecs: Sequence[LabelledCodec], contexts: Iterator[Context], chunk_tokens: int, seen: Seen
    ) -> list[Measured]:
        return bench.measure(
            self.model,
            codecs,
            contexts,
            end=special_id(self.tokenizer, END),
            decode_text=self.tokenizer.decode,
            chunk_tokens=chunk_tokens,
            seen=seen,
        )


_ORDER = ("high", "balanced", "small")


def _codec(tables: Tables, level: str) -> Calibrated:
    return Calibrated(tables, fingerprint(tables.to_bytes()), level)
