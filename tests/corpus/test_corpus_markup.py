"""The files that translation tasks publish, as they look, and the shipped recipes that read them."""

import gzip
from pathlib import Path

import pytest

from hat_ray.corpus.config import CorpusConfig, FilesConfig, TextPart
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.text.files import read_lines
from hat_ray.errors import CorpusError
from hat_ray.recipe import load_recipe
from hat_ray.storage.folder import Folder

TAGS = """<url>http://www.ted.com/talks/x.html</url>
<keywords>talks, design</keywords>
<speaker>A. Speaker</speaker>
<talkid>1</talkid>
<title>A title</title>
<description>TED Talk: what &amp; why</description>
 First sentence.
Second sentence.
<reviewer></reviewer>
"""
SEGMENTS = """<?xml version="1.0" encoding="UTF-8"?>
<srcset setid="newstest" srclang="any">
<doc sysid="ref" docid="d1"><p>
<hl><seg id="1"> A &quot;headline&quot; </seg></hl>
<seg id="2">Less &lt; more.</seg> <SEG id="3"></SEG>
</p></doc></srcset>
"""


def sentences(path: Path, content: str, **settings: object) -> list[str]:
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return list(read_lines(TextPart(path=str(path), **settings)))  # type: ignore[arg-type]


def test_talk_tags_go_and_titles_stay(tmp_path: Path) -> None:
    expected = ["A title", "TED Talk: what & why", "First sentence.", "Second sentence."]
    assert sentences(tmp_path / "train.tags.de-en.en", TAGS) == expected
    assert sentences(tmp_path / "other", TAGS, form="tags") == expected
    assert len(sentences(tmp_path / "other", TAGS)) == 9


@pytest.mark.parametrize("name", ["newstest.sgm", "IWSLT14.TED.tst2010.de-en.de.xml", "x.sgm.gz"])
def test_segments_are_taken_out_of_test_sets(tmp_path: Path, name: str) -> None:
    assert sentences(tmp_path / name, SEGMENTS) == ['A "headline"', "Less < more.", ""]


def test_a_test_set_without_segments_or_with_a_broken_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"x\.sgm holds no segments: set the `form` that it has"):
        sentences(tmp_path / "x.sgm", "a plain line\n")
    with pytest.raises(CorpusError, match=r"a <seg> of .*x\.sgm does not end on its line: '<seg id=\"1\">a'"):
        sentences(tmp_path / "x.sgm", '<seg id="1">a\nb</seg>\n')


def test_columns_are_taken_out_of_tables(tmp_path: Path) -> None:
    table = "Hund\tdog\n\tcat\nVogel\nFisch\t fish \tmore\n"
    assert sentences(tmp_path / "a.tsv", table, column=1) == ["Hund", "", "Vogel", "Fisch"]
    assert sentences(tmp_path / "a.tsv", table, column=2) == ["dog", "cat", "", "fish"]


def test_a_column_that_no_line_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a.tsv has no text in column 3: its lines have 2 columns at most"):
        sentences(tmp_path / "a.tsv", "Hund\tdog\nKatze\tcat\nVogel", column=3)
    with pytest.raises(
        CorpusError, match=r"no text in column 2: its lines have 1 columns at most, which tabs separate"
    ):
        sentences(tmp_path / "a.tsv", "Hund dog\nKatze cat\n", column=2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"train_source": ("a", "b")}, "train_source and train_target must name equally many files, got 2 and 1"),
        ({"valid_source": (), "valid_target": ()}, "validation needs either"),
        ({"valid_every": 3}, "validation needs either"),
        ({"test_source": (), "test_target": ()}, "test_source names no file"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(changes: dict[str, object], complaint: str) -> None:
    names = {f"{split}_{side}": "x" for split in ("train", "valid", "test") for side in ("source", "target")}
    with pytest.raises(ValueError, match=complaint):
        FilesConfig(**{**names, **changes})  # type: ignore[arg-type]


def write_like(part: TextPart, place: Path, language: str) -> None:
    """Write a file as the task publishes it: 30 sentences in each training file, 4 in each test set."""
    path = place / part.path
    path.parent.mkdir(parents=True, exist_ok=True)
    words = {"de": "der Hund sieht", "en": "the dog sees", "fr": "le chien voit"}
    if part.resolved_form == "segments":
        content = "".join(f'<seg id="{n}">{words[language]} {n}</seg>\n' for n in range(4))
    elif part.column:
        en, de = ("1", "2") if part.path.startswith("en-de") else ("2", "1")
        columns = {en: "the dog sees", de: "der Hund sieht"}
        content = "".join(f"{columns['1']} {n}\t{columns['2']} {n}\n" for n in range(30))
    else:
        tag = "<url>x</url>\n" if part.resolved_form == "tags" else ""
        content = tag + "".join(f"{words[language]} {part.path.count('e')} {n}\n" for n in range(30))
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())


@pytest.mark.parametrize(
    ("name", "train", "valid", "test"),
    [
        ("iwslt14.de-en", 29, 1, 20),
        ("wmt14.en-de", 90, 30, 4),
        ("wmt14.en-fr", 147, 3, 4),
        ("wmt19.en-de", 180, 4, 4),
        ("tatoeba.en-de", 30, 30, 30),
    ],
)
def test_a_shipped_recipe_reads_files_of_its_tasks_layout(
    tmp_path: Path, name: str, train: int, valid: int, test: int
) -> None:
    seldom = ["corpus.files.valid_every=50"] if name == "wmt14.en-fr" else []  # the recipe's 1333 wants more text
    corpus = load_recipe(name, [f"corpus.files.folder={tmp_path}", *seldom]).corpus
    files = load_recipe(name).corpus.files
    assert files is not None
    for side, language in (("source", corpus.source_language), ("target", corpus.target_language)):
        for split in ("train", "valid", "test"):
            for part in files.parts(f"{split}_{side}"):
                write_like(part, tmp_path, language)
    small = corpus.model_copy(update={"vocab_size": 60, "byte_fallback": False, "deduplicate": False, "leaks": "keep"})
    summary = prepare(CorpusConfig.model_validate(small.model_dump()), Folder.at(tmp_path / "out"), seed=1)
    assert (summary.train.pairs, summary.valid.pairs, summary.test.pairs) == (train, valid, test)
    loaded = Corpus.load(Folder.at(tmp_path / "out"))
    assert loaded.vocabularies.source.decode(loaded.train.source[5].tolist()).split()[:2] in (
        ["the", "dog"],
        ["der", "Hund"],
    )


@pytest.mark.parametrize("name", ["iwslt14.de-en", "wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"])
def test_every_file_that_a_recipe_reads_is_one_that_it_downloads(name: str) -> None:
    corpus = load_recipe(name).corpus
    assert corpus.files is not None
    offered = {name for download in corpus.downloads for name in (download.members or (download.name,))}
    fields = [f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")]
    assert {part.path for field in fields for part in corpus.files.parts(field)} == offered
