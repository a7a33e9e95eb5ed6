"""Settings of the corpus stage."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from hat_ray.config import StageConfig


class ToyConfig(StageConfig):
    """The built-in language pair. Its grammar and lexicon are fixed; the seed draws the sentences."""

    train_pairs: int = Field(default=20_000, ge=1, le=5_000_000)
    """Number of training pairs."""
    valid_pairs: int = Field(default=1_000, ge=1, le=100_000)
    """Number of validation pairs."""
    test_pairs: int = Field(default=1_000, ge=1, le=100_000)
    """Number of test pairs."""
    seed: int = Field(default=1, ge=0)
    """Draws the sentences. It is not the recipe's seed, so that repeating an experiment keeps its data."""


class FilesConfig(StageConfig):
    """Parallel text, plain or gzip, one sentence a line."""

    folder: str = ""
    """Where relative paths start; empty: at the current directory. `--data FOLDER` sets it."""
    train_source: str
    """Training sentences in the source language."""
    train_target: str
    """Their translations, line by line."""
    valid_source: str
    """Validation sentences in the source language."""
    valid_target: str
    """Their translations, line by line."""
    test_source: str
    """Test sentences in the source language."""
    test_target: str
    """Their reference translations, line by line."""

    def paths(self) -> dict[str, str]:
        """Return each file's whole path by its field's name, `train_source` and so on."""
        return {name: str(Path(self.folder) / path) for name, path in self if name != "folder"}


class CorpusConfig(StageConfig):
    """Which text, and how it becomes tokens."""

    source: Literal["toy", "files"] = "toy"
    """Where the text comes from: the built-in language pair, or text files."""
    source_language: str = "en"
    """Code of the language that is translated from; for display only."""
    target_language: str = "de"
    """Code of the language that is translated to; for display only."""
    toy: ToyConfig = ToyConfig()
    """The built-in language pair; used when `source` is `toy`."""
    files: FilesConfig | None = None
    """The text files; needed when `source` is `files`."""
    vocab_size: int = Field(default=1_500, ge=8)
    """Entries of the joint sub-word vocabulary, the four special ones included."""
    max_length: int = Field(default=80, ge=2)
    """Longest training sentence on either side, in tokens with the end mark; longer pairs are dropped. Validation and
    test keep every line, so that scores compare with others'."""
    nfc: bool = False
    """Bring every line into Unicode normal form C first. Off: the text is used as it is."""
    byte_fallback: bool | None = None
    """Spell a character that training never showed as its UTF-8 bytes (256 entries of the vocabulary), so that it can
    be copied into the translation. Null: on for files, off for the toy pair, whose alphabet is closed."""
    vocab_sample_lines: int = Field(default=2_000_000, ge=1)
    """Most lines, both languages together, from which the vocabulary is learned."""

    @model_validator(mode="after")
    def _files_are_given(self) -> "CorpusConfig":
        if self.source == "files" and self.files is None:
            raise ValueError(
                "source is 'files' but no files are named: set files.train_source and the other five paths"
            )
        return self

    @property
    def spells_bytes(self) -> bool:
        """Whether unknown characters are spelled as bytes, after the null of `byte_fallback` is resolved."""
        return self.source == "files" if self.byte_fallback is None else self.byte_fallback
