"""Settings of the corpus stage."""

from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from hat_ray.core.config import StageConfig
from hat_ray.corpus.cleaning.scripts import scripts_of
from hat_ray.corpus.protection.spans import RULES_VERSION, SYMBOLS
from hat_ray.corpus.vocabulary.config import VocabularyConfig, require_symbol
from hat_ray.storage.places import redacted

Leaks = Literal["remove", "warn", "keep"]
Deduplicate = bool | Literal["source", "target", "either"]
Form = Literal["lines", "tags", "segments"]

PROTECT = 0.15
"""`corpus.protect` of text files."""
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


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


class TextPart(StageConfig):
    """One text file, plain or packed (gzip, bzip2, xz, zstd), and where its sentences stand."""

    path: str
    """The file, from `files.folder` on."""
    form: Form | None = None
    """`lines`: one sentence a line; `tags`: lines between IWSLT's talk tags; `segments`: the <seg> elements of SGML or
    XML test sets. Null: by name, `train.tags.*` are tags, `*.sgm` and `*.xml` are segments, all others lines."""
    column: int = Field(default=0, ge=0)
    """Which tab-separated column of a line is the sentence, counted from 1; 0 takes the whole line."""
    weight: float = Field(default=1.0, gt=0, le=20)
    """Files of `train_source`: how often each of their pairs is trained on in an epoch, such as 3, or 0.5 for every
    second one. Deduplication comes before."""
    tag: str = Field(default="", max_length=40)
    """Files of `train_source`: a word that is written before each of their sentences, such as `<BT>` for text that was
    translated back. It becomes one entry of a vocabulary that is learned; a vocabulary file must know it."""

    later: ClassVar[frozenset[str]] = frozenset({"weight", "tag"})

    @field_validator("tag")
    @classmethod
    def _is_a_word(cls, tag: str) -> str:
        if tag in SYMBOLS:
            raise ValueError(f"{tag!r} stands for what a translation must not change: choose another word, as <BT>")
        return require_symbol(tag) if tag else tag

    @property
    def resolved_form(self) -> Form:
        """The form, after null is resolved by the file's name."""
        place = PurePosixPath(self.path)
        name = place.stem if place.suffix in PACKED_SUFFIXES else place.name
        if self.form is not None:
            return self.form
        if name.startswith("train.tags."):
            return "tags"
        return "segments" if name.endswith((".sgm", ".xml")) else "lines"


Texts = str | TextPart | tuple[str | TextPart, ...]
"""One file, or several that follow one another; both sides of a split name equally many."""


class FilesConfig(StageConfig):
    """Parallel text, plain or packed (gzip, bzip2, xz, zstd), one sentence a line. Only plain files are read, no FIFOs
    or devices; what unpacks to more than a GiB and more than 300 times its size is refused."""

    folder: str = ""
    """Folder that relative paths start in; empty: the folder of the `downloads`, or else the current directory.
    `--data FOLDER` sets it: your own files under these names, and nothing is downloaded."""
    train_source: Texts
    """Training sentences in the source language: a file, or a list of files."""
    train_target: Texts
    """Their translations, line by line."""
    valid_source: Texts = ()
    """Validation sentences in the source language."""
    valid_target: Texts = ()
    """Their translations, line by line."""
    test_source: Texts
    """Test sentences in the source language."""
    test_target: Texts
    """Their reference translations, line by line."""
    valid_every: int = Field(default=0, ge=0)
    """Use every n-th training pair for validation instead, where no validation files are named (HAT: 23 for
    IWSLT, 1333 for WMT'14 En-Fr); 0: none."""

    @model_validator(mode="after")
    def _sides_fit(self) -> "FilesConfig":
        for split in ("train", "valid", "test"):
            source, target = (len(self.parts(f"{split}_{side}")) for side in ("source", "target"))
            if source != target:
                raise ValueError(
                    f"{split}_source and {split}_target must name equally many files, got {source} and {target}"
                )
            for side in ("source", "target"):
                marked = [part for part in self.parts(f"{split}_{side}") if part.weight != 1 or part.tag]
                if marked and (split, side) != ("train", "source"):
                    raise ValueError(f"weight and tag are for files of train_source: leave them out of {split}_{side}")
            if not source and split != "valid":
                raise ValueError(f"{split}_source names no file: name one at least")
        if bool(self.parts("valid_source")) == bool(self.valid_every):
            raise ValueError("validation needs either valid_source and valid_target, or valid_every: set one of them")
        return self

    def parts(self, field: str) -> tuple[TextPart, ...]:
        """Return the files of a field, such as `train_source`, with their whole paths."""
        return _parts(getattr(self, field), self.folder)


def _parts(value: Texts, folder: str) -> tuple[TextPart, ...]:
    """Return the files of a setting, relative paths from a folder on."""
    entries = value if isinstance(value, tuple) else (value,)
    parts = [entry if isinstance(entry, TextPart) else TextPart(path=entry) for entry in entries]
    return tuple(part.model_copy(update={"path": str(Path(folder) / part.path)}) for part in parts)


class DataBinConfig(StageConfig):
    """A folder that fairseq-preprocess made (`data-bin`). Its tokens and dictionaries are used as they are."""

    folder: str = ""
    """The folder, with `dict.en.txt` and `train.en-de.en.idx` where the languages are en and de. `--data FOLDER` sets
    it."""
    train_subset: str = Field(default="train", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the split to train on."""
    valid_subset: str = Field(default="valid", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the split to validate on."""
    test_subset: str = Field(default="test", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the split to score (fairseq's --gen-subset)."""
    valid_source: Texts = ()
    """Plain text of the validation split; empty: its tokens are decoded."""
    valid_target: Texts = ()
    """Its translations, line by line."""
    test_source: Texts = ()
    """Plain text of the test split, line by line, or of a test set that the folder lacks. Empty: tokens are decoded,
    and a reference word outside the dictionary is an unknown word in the score."""
    test_target: Texts = ()
    """Its reference translations, line by line."""

    @model_validator(mode="after")
    def _sides_fit(self) -> "DataBinConfig":
        for split in ("valid", "test"):
            source, target = (len(self.parts(f"{split}_{side}")) for side in ("source", "target"))
            if source != target:
                raise ValueError(
                    f"{split}_source and {split}_target must name equally many files, got {source} and {target}"
                )
        return self

    def parts(self, field: str) -> tuple[TextPart, ...]:
        """Return the text files of a field, such as `test_source`; relative paths are those of the current folder."""
        return _parts(getattr(self, field), "")


class Download(StageConfig):
    """One file from the web."""

    url: str
    """Address: http:// or https://."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """Hash of its content; empty: not known, then the hash at the first download is kept beside the file
    and holds from then on."""
    members: tuple[str, ...] = ()
    """Which files of a .tgz, .tar or .zip are unpacked, under their own names; empty: the file is used as it is. Links
    and devices are never unpacked."""

    @field_validator("url")
    @classmethod
    def _is_web(cls, url: str) -> str:
        rule = "a download's url must begin with http:// or https:// and name a file"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{rule} ({error})") from error
        name = PurePosixPath(url.partition("?")[0]).name
        if not url.startswith(("http://", "https://")) or url.partition("?")[0].endswith("/") or name in (".", ".."):
            raise ValueError(rule)
        if not parts.hostname or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"{rule}, with a host and in printable ASCII (%20 for a space)")
        if redacted(url) != url:
            raise ValueError("a url holds no user, password, token or signature: fetch the file, and use --data FOLDER")
        return url

    @field_validator("members")
    @classmethod
    def _stay_inside(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        for member in members:
            path = PurePosixPath(member)
            if path.is_absolute() or ".." in path.parts or str(path) != member:
                raise ValueError(f"a member is a plain path inside its archive, got {member!r}")
        return members

    @property
    def name(self) -> str:
        """Name of the downloaded file."""
        return PurePosixPath(self.url.partition("?")[0]).name


class CorpusConfig(StageConfig):
    """Which text, and how it becomes tokens."""

    execution_only: ClassVar[frozenset[str]] = frozenset(
        {
            *("downloads", "downloads_folder", "download_timeout_s", "download_tries"),
            *("max_download_gb", "max_unpacked_gb", "max_expansion"),
            "distil_from",  # its content decides, not its place
        }
    )

    later: ClassVar[frozenset[str]] = frozenset(
        {
            "fairseq",
            "vocabulary",
            "distil_from",
            "distil_beam",
            "leaks",
            "drop_identical",
            "min_script_share",
            "protect",
        }
    )

    source: Literal["toy", "files", "fairseq"] = "toy"
    """Source of the text: the built-in language pair, text files, or a data-bin of fairseq's."""
    source_language: str = "en"
    """Code of the language that is translated from; a data-bin's files are found by it."""
    target_language: str = "de"
    """Code of the language that is translated to; a data-bin's files are found by it."""
    toy: ToyConfig = ToyConfig()
    """The built-in language pair; used when `source` is `toy`."""
    files: FilesConfig | None = None
    """The text files; needed when `source` is `files`."""
    fairseq: DataBinConfig | None = None
    """The data-bin; needed when `source` is `fairseq`."""
    downloads: tuple[Download, ...] = ()
    """Files from the web that `files` are in; fetched unless `files.folder` names the text's folder."""
    downloads_folder: str = ""
    """Folder of downloads; empty: `$HAT_RAY_CACHE/downloads`, or else `~/.cache/hat-ray/downloads`."""
    download_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds without a byte after which a transfer is given up and tried again."""
    download_tries: int = Field(default=5, ge=1, le=1_000)
    """Tries in a row without a new byte before a download fails; between them it waits 1, 2, 4, ... seconds."""
    max_download_gb: float = Field(default=20.0, gt=0)
    """Gigabytes that one downloaded file may have; a larger one is refused when the server announces its size, or at
    the first byte beyond. A redirection leads to http:// or https:// only, and never from https:// to http://."""
    max_unpacked_gb: float = Field(default=100.0, gt=0)
    """Gigabytes that one archive may unpack to."""
    max_expansion: float = Field(default=100.0, ge=1)
    """Times its own size that an archive may unpack to; what unpacks to less than 64 MB is not held to it."""
    vocab_size: int = Field(default=1_500, ge=8, le=1_000_000)
    """Entries of the joint sub-word vocabulary, the four special ones included."""
    vocabulary: VocabularyConfig = VocabularyConfig()
    """Sub-words that exist already, or how they are learned."""
    distil_from: str = ""
    """A trained model whose translations of the training sources take the place of their references (sequence-level
    distillation): a run folder, a model folder, an export, a CTranslate2 folder with its `source.spm` and `target.spm`,
    a Hugging Face folder or Marian's .npz with its sub-words. They are kept in the run. Empty: the references."""
    distil_beam: int | None = Field(default=None, ge=1, le=1_000)
    """Hypotheses kept by that model's beam search; null: its own setting."""
    max_length: int = Field(default=80, ge=2, le=100_000)
    """Longest training sentence on either side, in tokens with the end mark; longer pairs are dropped. Validation and
    test keep every line, so that scores compare with others'."""
    max_ratio: float = Field(default=0.0, ge=0)
    """Training pairs are dropped whose longer side has more than this many times the tokens of the shorter, end marks
    not counted; 0 keeps all (HAT: 1.5)."""
    leaks: Leaks = "remove"
    """Training pairs whose source is a validation or test source, letter by letter: `remove` leaves them out, `warn`
    trains on them and reports that scores are too high, `keep` trains on them and only counts them."""
    drop_identical: bool = False
    """Drop training pairs whose sides are identical: they teach to copy."""
    min_script_share: float = Field(default=0.0, ge=0, le=1)
    """Training pairs are dropped where less than this share of a side's letters is in the script of its language, such
    as 0.5; 0 keeps all. The script follows from `source_language` and `target_language` (`ja`, `sr-Latn`)."""
    deduplicate: Deduplicate = False
    """Drop training pairs that occurred before: `true` where both sides did together, `source` where the source did,
    `target` where the target did, `either` where one of them did."""
    nfc: bool = False
    """Bring every line into Unicode normal form C first. Off: the text is used as it is."""
    byte_fallback: bool | None = None
    """Spell a character that training never showed as its UTF-8 bytes (256 entries of the vocabulary), so that it can
    be copied into the translation. Null: on for files, off for the toy pair, whose alphabet is closed."""
    protect: float | None = Field(default=None, ge=0, le=1)
    """Share of the training pairs that teach symbols, in whose place URLs, e-mail addresses, placeholders, mark-up,
    numbers, emoji and code come through a translation as they are; 0: none, and a vocabulary that is learned has no
    symbols. Null: 0.15 of text files, 0 of the toy pair, of a data-bin, and for vocabulary files without symbols."""
    vocab_sample_lines: int = Field(default=2_000_000, ge=1, le=1_000_000_000)
    """Most lines, both languages together, from which the vocabulary is learned."""

    @model_validator(mode="after")
    def _files_are_given(self) -> "CorpusConfig":
        if self.source == "files" and self.files is None:
            raise ValueError(
                "source is 'files' but no files are named: set files.train_source and the other five paths"
            )
        if self.source == "fairseq":
            if self.fairseq is None or not self.fairseq.folder:
                raise ValueError("source is 'fairseq' but no data-bin is named: set fairseq.folder")
            of_text = {name: getattr(self, name) for name in ("deduplicate", "drop_identical", "min_script_share")}
            of_text |= {"nfc": self.nfc, "downloads": bool(self.downloads)}
            if wrong := [name for name, is_set in of_text.items() if is_set]:
                raise ValueError(f"{wrong[0]} is for text, and a data-bin holds tokens: leave it out")
            if self.protect:
                raise ValueError("protect is for text, and a data-bin holds tokens: leave it out")
            if self.vocabulary.source or self.vocabulary.target:
                raise ValueError("a data-bin has its own dictionaries: leave vocabulary.source and target out")
        else:
            self.vocabulary.require_file()
        if self.source == "fairseq" and self.distil_from:
            raise ValueError(
                "distil_from translates text, and a data-bin holds tokens: name the text by source 'files'"
            )
        for side in ("source", "target"):
            code = getattr(self, f"{side}_language")
            if self.min_script_share and not scripts_of(code):
                raise ValueError(
                    f"min_script_share needs the script of {side}_language, and that of {code!r} is not known: name it "
                    "in the code (such as sr-Latn, zh-Hant), or leave min_script_share out"
                )
        if 0 < self.max_ratio < 1:
            raise ValueError(f"max_ratio must be 0 (off) or at least 1, got {self.max_ratio}")
        return self

    @property
    def tags(self) -> tuple[str, ...]:
        """The different tags of the training files, in order."""
        parts = self.files.parts("train_source") if self.source == "files" and self.files else ()
        return tuple(dict.fromkeys(part.tag for part in parts if part.tag))

    @property
    def symbols(self) -> tuple[str, ...]:
        """Words that are one entry each of a vocabulary that is learned: those of the recipe, tags, and symbols that
        stand for protected parts."""
        return tuple(dict.fromkeys((*self.vocabulary.symbols, *self.tags, *(SYMBOLS if self.protect_share else ()))))

    @property
    def protect_share(self) -> float:
        """The share of pairs that teach symbols, after the null of `protect` is resolved: 0 of all but text files."""
        return (PROTECT if self.source == "files" else 0.0) if self.protect is None else self.protect

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that decide the result; one that protects nothing is as those before protection."""
        settings = super().result_settings()
        settings.pop("protect", None)
        if self.protect_share and (self.protect is not None or not self.vocabulary.source):
            settings["protect"] = [self.protect_share, RULES_VERSION]
        return settings

    @property
    def spells_bytes(self) -> bool:
        """Whether unknown characters are spelled as bytes, after the null of `byte_fallback` is resolved."""
        return self.source == "files" if self.byte_fallback is None else self.byte_fallback
