"""A COMET model in a local folder, as Marian keeps it, run by the library pymarian (`pip install hat-ray[comet]`).

Decisions
- pymarian, and not unbabel-comet: it needs no other NumPy, protobuf or transformers than hat-ray's own, and no PyTorch,
  and it gives the scores of Unbabel's models. Its models are arrays; a checkpoint of unbabel-comet is a pickle.
- hat-ray fetches no model: Unbabel's licences ask for consent. The folder is the user's.
- Scores are computed in a process of their own (`process.py`), as Marian aborts where a file is damaged.
"""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from hat_ray.core.usable_cpus import usable_cpus
from hat_ray.errors import CorpusError, in_one_line
from hat_ray.storage.plain_file import printable
from hat_ray.storage.temporary import temporary_folder

_VOCABULARIES = ("vocab.spm", "sentencepiece.bpe.model")
_MOST_PROCESSES, _ROWS_WORTH_A_PROCESS = 4, 100
"""Each process has one thread, and the weights once more."""
_ERRORS = "errors.txt"
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class CometScores:
    """The scores of sentences, as the model gives them, and the type of the model."""

    kind: str
    """`comet` compares with source and reference, `comet-qe` with the source alone."""
    scores: tuple[float, ...]


@dataclass(frozen=True)
class CometModel:
    """A model's files and what identifies it."""

    weights: Path
    vocabulary: Path
    name: str
    """The folder's, of letters, digits, dots, dashes and underscores."""

    @classmethod
    def open(cls, folder: str | Path) -> "CometModel":
        """Find a model in a local folder, or in its folder `checkpoints`; raise CorpusError where there is none."""
        place = Path(folder)
        shown = printable(str(folder), 200)
        if importlib.util.find_spec("pymarian") is None:
            raise CorpusError(
                "COMET needs the library pymarian, which Linux on x86-64 with Python up to 3.12 has: pip install "
                "'hat-ray[comet]', or leave comet out"
            )
        if not place.is_dir():
            raise CorpusError(f"COMET's model must be a local folder, got {shown}: put the model's files into one")
        places = (place, place / "checkpoints")
        weights = [path for each in places for kind in ("bin", "npz") for path in sorted(each.glob(f"*.{kind}"))]
        words = [each / name for each in places for name in _VOCABULARIES if (each / name).is_file()]
        if len(weights) != 1 or not words:
            found = f"{len(weights)} of weights and {'a' if words else 'no'} vocabulary"
            raise CorpusError(
                f"COMET's folder {shown} must hold one file of weights of Marian's (.bin or .npz) and its vocabulary "
                f"({' or '.join(_VOCABULARIES)}), got {found}: take a model in Marian's form, such as "
                "unbabel/wmt22-comet-da-marian"
            )
        name = re.sub(r"[^\w.-]", "_", place.resolve().name, flags=re.ASCII)[:80]
        return cls(weights[0].resolve(), words[0].resolve(), name)

    @cached_property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of both files, one behind the other."""
        found = hashlib.sha256()
        for path in (self.weights, self.vocabulary):
            with path.open("rb") as stream:
                while block := stream.read(_READ_BYTES):
                    found.update(block)
        return found.hexdigest()[:12]

    def scores(self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]) -> CometScores:
        """Return the score of each sentence; raise CorpusError where the model cannot be run.

        A sentence of more than 512 tokens, or than the model reads, is cut there, as the library does.
        """
        rows = [list(row) for row in zip(sources, hypotheses, references, strict=True)]
        count = min(usable_cpus(), _MOST_PROCESSES, -(-len(rows) // _ROWS_WORTH_A_PROCESS))
        parts = [rows[len(rows) * number // count : len(rows) * (number + 1) // count] for number in range(count)]
        with temporary_folder("comet") as folder:
            running: list[subprocess.Popen[str]] = []
            try:
                running.extend(self._started(folder / str(number), part) for number, part in enumerate(parts))
                made = [self._finished(folder / str(number), one) for number, one in enumerate(running)]
            finally:
                for one in running:
                    one.kill()
                    one.wait()
        return CometScores(made[0]["kind"], tuple(score for each in made for score in each["scores"]))

    def _started(self, folder: Path, rows: list[list[str]]) -> "subprocess.Popen[str]":
        """Start a process that scores rows, in a folder that holds all it needs."""
        folder.mkdir()
        (folder / f"model{self.weights.suffix}").symlink_to(self.weights)
        (folder / "vocab.spm").symlink_to(self.vocabulary)
        (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        program = str(Path(__file__).with_name("process.py"))
        with (folder / _ERRORS).open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-P", program], cwd=folder, stdout=subprocess.DEVNULL, stderr=errors, text=True
            )

    def _finished(self, folder: Path, running: "subprocess.Popen[str]") -> dict[str, Any]:
        """Wait for a process, and return what it found."""
        if code := running.wait():
            text = (folder / _ERRORS).read_text(encoding="utf-8", errors="replace")
            lines = [line.partition("Error: ")[2] for line in text.splitlines() if "Error: " in line]
            reason = in_one_line(lines[0] if lines else f"its process ended with {code}", 160)
            raise CorpusError(
                f"COMET's model {self.weights} cannot be run ({reason}): copy it and its vocabulary again"
            )
        found: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        return found


def library() -> str:
    """Return the name and version of the library, for signatures."""
    return f"pymarian-{metadata.version('pymarian')}"
