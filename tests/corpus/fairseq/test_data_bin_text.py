"""Plain text of a data-bin that was tokenised by Moses and cut by BPE: it becomes the very tokens, and comes back."""

import io
from pathlib import Path

import pytest

from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder
from tests.corpus.fairseq.data_bin_files import encoded, write_dictionary, write_mmap
from tests.corpus.fairseq.test_data_bin import config, rows

sacremoses = pytest.importorskip("sacremoses")
apply_bpe = pytest.importorskip("subword_nmt.apply_bpe")
learn_bpe = pytest.importorskip("subword_nmt.learn_bpe")

TEXT = {
    "en": ["The newest houses aren't low.", 'Lower rents, newer houses: it\'s "fine".', "A well-known house & rent."],
    "de": [
        "Die neuesten Häuser sind nicht niedrig.",
        "Niedrigere Mieten, neuere Häuser.",
        "Ein bekanntes Haus & Miete.",
    ],
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Write plain text, codes and the data-bin that fairseq would make of both by Moses and subword-nmt."""
    words = {
        language: [sacremoses.MosesTokenizer(lang=language).tokenize(line, return_str=True) for line in lines]
        for language, lines in TEXT.items()
    }
    codes = io.StringIO()
    learn_bpe.learn_bpe(io.StringIO("\n".join(words["en"] + words["de"])), codes, 20)
    (tmp_path / "code").write_text(codes.getvalue())
    cutter = apply_bpe.BPE(io.StringIO(codes.getvalue()))
    cut = {language: [cutter.process_line(line) for line in lines] for language, lines in words.items()}
    symbols = sorted({piece for lines in cut.values() for line in lines for piece in line.split()})
    (tmp_path / "bin").mkdir()
    for language, lines in cut.items():
        write_dictionary(tmp_path / "bin" / f"dict.{language}.txt", symbols)
        (tmp_path / f"test.{language}").write_text("".join(f"{line}\n" for line in TEXT[language]))
        for split in ("train", "valid", "test"):
            write_mmap(tmp_path / "bin" / f"{split}.en-de.{language}", encoded(lines, symbols))
    return tmp_path


def corpus(place: Path, **vocabulary: object) -> Corpus:
    texts = {f"test_{side}": str(place / f"test.{end}") for side, end in (("source", "en"), ("target", "de"))}
    prepare(config(place / "bin", vocabulary=vocabulary, **texts), Folder.at(place / "out"), 1)
    return Corpus.load(Folder.at(place / "out"))


def test_plain_text_becomes_the_tokens_and_tokens_become_the_text(made: Path):
    found = corpus(made, bpe_codes=str(made / "code"), tokenise="moses")
    assert any("@@" in piece for piece in found.vocabularies.source.pieces())
    for side, language, known in (
        (found.test.source, "en", found.vocabularies.source),
        (found.test.target, "de", found.vocabularies.target),
    ):
        assert known.encode_lines(TEXT[language]) == rows(side)
        assert [known.decode(tokens) for tokens in rows(side)] == TEXT[language]


def test_text_that_is_cut_another_way_is_refused_and_leaves_nothing(made: Path):
    (made / "other").write_text("#version: 0.2\n" + "".join(f"q{number} x</w>\n" for number in range(200)))
    for wrong, reason in (
        ({}, "source text must become the tokens of .*test, 0 of 3 lines do"),
        ({"tokenise": "moses"}, "source text must become the tokens of .*test, 0 of 3 lines do"),
        (
            {"bpe_codes": str(made / "other"), "tokenise": "moses"},
            r"only 0% of what the BPE codes \S+/other make stands in it: name ",
        ),
    ):
        with pytest.raises(CorpusError, match=reason) as refusal:
            corpus(made, **wrong)
        assert "\n" not in str(refusal.value)
        assert not (made / "out").exists()
