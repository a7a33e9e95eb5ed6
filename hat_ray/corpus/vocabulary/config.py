"""Settings of the vocabularies: files that exist already, or how one is learned."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from hat_ray.core.config import StageConfig


class VocabularyConfig(StageConfig):
    """The sub-words. Without files they are learned from the training text, with `corpus.vocab_size` entries.

    A file's kind follows from its content: a SentencePiece model (`.model`, Marian's `.spm`), a fairseq dictionary
    (`dict.de.txt`), a list of words with their numbers (Marian's `.yml`, `vocab.json` of Hugging Face), or a
    `tokenizer.json` of the library tokenizers. Relative paths start where those of the text do.
    """

    source: str = ""
    """File of the source's vocabulary; empty: learned from the training text."""
    target: str = ""
    """File of the target's vocabulary; empty: the source's."""
    shared: bool = True
    """One vocabulary for both sides. Off: two are learned, each from its own side of the text; embeddings of the two
    sides are then apart (`model.share_embeddings` `decoder` or `none`). Files decide it by themselves."""
    pieces: str = ""
    """SentencePiece model that cuts the source's text into entries of a dictionary or word list (`source.spm` of
    OPUS-MT); empty: none."""
    target_pieces: str = ""
    """The same for the target (`target.spm`); empty: `pieces`."""
    bpe_codes: str = ""
    """BPE codes of subword-nmt or fastBPE that cut the source's words into entries of a dictionary; empty: none."""
    target_bpe_codes: str = ""
    """The same for the target; empty: `bpe_codes`."""
    tokenise: Literal["none", "moses"] = "none"
    """What cuts a line into words for a dictionary: spaces alone, or Moses' tokeniser, which is undone in
    translations."""
    dash_splits: bool = False
    """Moses: cut words at dashes (`-a`, as HAT's WMT data)."""
    escape: bool = True
    """Moses: write `&` as `&amp;` and the like, as its scripts do."""
    lowercase: bool = False
    """Moses or spaces: lower all letters, as HAT's IWSLT data."""
    character_coverage: float = Field(default=1.0, ge=0.9, le=1.0)
    """Learning: share of all characters that the vocabulary holds; 0.9995 for Chinese or Japanese."""
    max_sentence_bytes: int = Field(default=4192, ge=10, le=1_000_000)
    """Learning: lines of more bytes are left out of the sample."""
    symbols: tuple[str, ...] = ()
    """Learning: words that are one entry each, wherever they stand, such as a mark of the target language."""

    @field_validator("symbols")
    @classmethod
    def _are_words(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in symbols:
            require_symbol(symbol)
        if len(set(symbols)) < len(symbols):
            raise ValueError("a symbol stands once in symbols: delete the others")
        return symbols

    def require_file(self) -> None:
        """Raise ValueError for settings of a vocabulary file where none is named."""
        extra = [name for name in _OF_FILES if getattr(self, name) != _default(name)]
        if extra and not self.source:
            raise ValueError(
                f"vocabulary.{extra[0]} needs a vocabulary file: set vocabulary.source, or leave {extra[0]} out"
            )

    @model_validator(mode="after")
    def _fits(self) -> "VocabularyConfig":
        if self.source and (extra := [name for name in _OF_LEARNING if getattr(self, name) != _default(name)]):
            raise ValueError(f"{extra[0]} is for a vocabulary that is learned: leave it out, or source")
        if self.pieces and self.bpe_codes:
            raise ValueError("pieces and bpe_codes both cut words: leave one of them out")
        return self


def require_symbol(symbol: str) -> str:
    """Return a word that can be one entry of a vocabulary; raise ValueError for another."""
    if not symbol or symbol.split() != [symbol] or "," in symbol or "▁" in symbol:
        raise ValueError(f"a symbol is a word without spaces, commas and U+2581, got {symbol!r}")
    return symbol


FILE_SETTINGS = ("source", "target", "pieces", "target_pieces", "bpe_codes", "target_bpe_codes")
"""Settings that name files."""
_OF_FILES = ("target", "pieces", "target_pieces", "bpe_codes", "target_bpe_codes", "tokenise", "lowercase")
_OF_LEARNING = ("shared", "character_coverage", "max_sentence_bytes", "symbols")


def _default(name: str) -> object:
    return VocabularyConfig.model_fields[name].default
