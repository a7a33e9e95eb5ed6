"""Vocabularies of other programs give the tokens that those programs give, in our order of ids."""

import io
import json
import pickle
from pathlib import Path

import pytest
import sentencepiece
import yaml

from hat_ray.corpus.vocabulary import BOS, EOS, MISSING, PAD, UNK, Vocabularies
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.corpus.vocabulary.given import given_vocabularies
from hat_ray.errors import CorpusError
from tests.corpus.vocabulary.foreign_files import (
    ENGLISH,
    GERMAN,
    bpe_codes,
    sentencepiece_model,
    write_dictionary,
    write_marian_yml,
)

apply_bpe = pytest.importorskip("subword_nmt.apply_bpe")
sacremoses = pytest.importorskip("sacremoses")
tokenizers = pytest.importorskip("tokenizers")


def opened(folder: Path, languages: tuple[str, str] = ("en", "de"), **settings: object) -> Vocabularies:
    return given_vocabularies(VocabularyConfig(**settings), languages, str(folder))


def theirs(vocabulary, tokens: list[int]) -> list[int]:
    assert tokens[-1] == EOS
    return [vocabulary.order[token] for token in tokens[:-1]]


def test_a_sentencepiece_model_of_other_ids(tmp_path: Path) -> None:
    model = sentencepiece_model(ENGLISH, 90)
    (tmp_path / "own.spm").write_bytes(model)
    both = opened(tmp_path, source="own.spm")
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert both.joint
    assert both.sizes == (91, 91)  # <pad> is added
    assert both.source.order[:4] == (1, MISSING, 2, 0)
    assert both.source.pieces()[:5] == ["<s>", "<pad>", "</s>", "<unk>", reference.id_to_piece(3)]
    for line in [*ENGLISH, "Ω </s> <s> <pad>", ""]:
        tokens = both.source.encode(line)
        assert theirs(both.source, tokens) == reference.encode(line)
        assert not {BOS, PAD, EOS} & set(tokens[:-1])
        assert both.target.decode([BOS, *tokens, PAD]) == reference.decode(reference.encode(line)).strip()


def test_a_sentencepiece_model_in_our_order_keeps_its_ids(tmp_path: Path) -> None:
    model = sentencepiece_model(ENGLISH, 90, bos_id=BOS, pad_id=PAD, eos_id=EOS, unk_id=UNK)
    (tmp_path / "own.model").write_bytes(model)
    both = opened(tmp_path, source="own.model")
    assert both.source.order == tuple(range(90))
    assert both.files() == {"sentencepiece.model": model}


@pytest.mark.parametrize("fast", [False, True], ids=["subword-nmt", "fastBPE"])
@pytest.mark.parametrize(("escape", "dash_splits"), [(True, False), (False, True)])
def test_a_fairseq_dictionary_with_bpe_codes_and_moses(
    tmp_path: Path, fast: bool, escape: bool, dash_splits: bool
) -> None:
    moses = {language: sacremoses.MosesTokenizer(lang=language) for language in ("en", "de")}
    text = {"en": ENGLISH, "de": GERMAN}
    cut = {
        language: [
            moses[language].tokenize(line, return_str=True, escape=escape, aggressive_dash_splits=dash_splits)
            for line in lines
        ]
        for language, lines in text.items()
    }
    codes = bpe_codes([*cut["en"], *cut["de"]], 60)
    bpe = apply_bpe.BPE(io.StringIO(codes))
    split = {language: [bpe.process_line(line) for line in lines] for language, lines in cut.items()}
    symbols = {language: write_dictionary(tmp_path / f"dict.{language}.txt", split[language]) for language in split}
    if fast:
        codes = "".join(f"{line} {9}\n" for line in codes.splitlines()[1:])
    (tmp_path / "codes").write_text(codes)
    sides = opened(
        tmp_path,
        source="dict.en.txt",
        target="dict.de.txt",
        bpe_codes="codes",
        tokenise="moses",
        escape=escape,
        dash_splits=dash_splits,
    )
    assert not sides.joint
    assert sides.sizes == (len(symbols["en"]), len(symbols["de"]))
    for language, vocabulary in (("en", sides.source), ("de", sides.target)):
        assert vocabulary.pieces() == symbols[language]
        assert vocabulary.order == tuple(range(len(vocabulary)))
        for line, expected in zip(text[language], split[language], strict=True):
            tokens = vocabulary.encode(line)
            assert [symbols[language][token] for token in tokens] == [*expected.split(), "</s>"]
            words = expected.replace("@@ ", "").split()
            plain = sacremoses.MosesDetokenizer(lang=language).detokenize(words, unescape=escape)
            assert vocabulary.decode(tokens) == plain
    assert sides.target.decode(sides.target.encode(GERMAN[1])) == GERMAN[1]


def test_words_between_spaces_and_unknown_ones(tmp_path: Path) -> None:
    write_dictionary(tmp_path / "dict.txt", ["w1 w2 w3"])
    vocabulary = opened(tmp_path, source="dict.txt", lowercase=True).source
    assert vocabulary.encode("w2  W1\tw9 </s> <s> <pad> <unk>") == [5, 4, *[UNK] * 5, EOS]
    assert vocabulary.decode([5, 4, UNK, EOS]) == "w2 w1 <unk>"


def test_joined_dictionaries_with_two_languages_share_their_ids(tmp_path: Path) -> None:
    write_dictionary(tmp_path / "dict.txt", [*ENGLISH, *GERMAN])
    sides = opened(tmp_path, source="dict.txt", tokenise="moses")
    assert sides.joint
    assert sides.source is not sides.target  # each with its language's rules


def test_marians_yml_with_two_sentencepiece_models(tmp_path: Path) -> None:
    models = {"source": sentencepiece_model(ENGLISH, 80), "target": sentencepiece_model(GERMAN, 90)}
    for side, model in models.items():
        (tmp_path / f"{side}.spm").write_bytes(model)
    pieces = write_marian_yml(tmp_path / "vocab.yml", sentencepiece_model([*ENGLISH, *GERMAN], 150))
    (tmp_path / "vocab.json").write_text(
        json.dumps({piece: one for one, piece in enumerate(pieces)} | {"<pad>": 150 - 1})
    )
    sides = opened(tmp_path, source="vocab.yml", pieces="source.spm", target_pieces="target.spm")
    assert sides.joint
    numbers = yaml.safe_load((tmp_path / "vocab.yml").read_text())
    assert sides.source.order[:6] == (MISSING, MISSING, 0, 1, 2, 3)
    for vocabulary, model, lines in (
        (sides.source, models["source"], ENGLISH),
        (sides.target, models["target"], GERMAN),
    ):
        reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        for line in lines:
            expected = [numbers.get(piece, 1) for piece in reference.encode(line, out_type=str)]
            assert theirs(vocabulary, vocabulary.encode(line)) == expected
            if 1 not in expected:
                assert vocabulary.decode(vocabulary.encode(line)) == line


def test_a_folder_of_opus_mt_gives_the_tokens_of_transformers(tmp_path: Path) -> None:
    marian = pytest.importorskip("transformers").MarianTokenizer
    for side, lines in (("source", ENGLISH), ("target", GERMAN)):
        (tmp_path / f"{side}.spm").write_bytes(sentencepiece_model(lines, 80))
    pieces = [
        *write_marian_yml(tmp_path / "vocab.yml", sentencepiece_model([*ENGLISH, *GERMAN], 150)),
        ">>deu<<",
        "<pad>",
    ]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    reference = marian.from_pretrained(str(tmp_path), source_lang="en", target_lang="de")
    sides = opened(tmp_path, source="vocab.json", pieces="source.spm", target_pieces="target.spm")
    for line in [*ENGLISH[:4], ">>deu<< A dog.", "Ω"]:
        tokens = sides.source.encode(line)
        assert [sides.source.order[token] for token in tokens] == reference(line)["input_ids"]
    for line in GERMAN[:4]:
        tokens = sides.target.encode(line)
        assert [sides.target.order[token] for token in tokens] == reference(text_target=line)["input_ids"]
        if UNK not in tokens:
            assert sides.target.decode(tokens) == reference.decode(reference(text_target=line)["input_ids"], True)


@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_a_tokenizer_json(tmp_path: Path, unknown: str | None) -> None:
    kind = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=unknown))
    kind.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    kind.decoder = tokenizers.decoders.Metaspace()
    special = ["<pad>", "</s>", *([unknown] if unknown else [])]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    kind.train_from_iterator([*ENGLISH, *GERMAN], trainer)
    kind.enable_padding(length=300)
    kind.enable_truncation(3)
    kind.save(str(tmp_path / "tokenizer.json"))
    vocabulary = opened(tmp_path, source="tokenizer.json").source
    kind.no_padding()
    kind.no_truncation()
    kind.encode_special_tokens = True
    assert vocabulary.order[:4] == (MISSING, 0, 1, 2 if unknown else MISSING)
    for line in [*ENGLISH, *GERMAN]:
        tokens = vocabulary.encode(line)
        assert theirs(vocabulary, tokens) == kind.encode(line).ids
        assert vocabulary.decode(tokens) == line
    assert not {BOS, PAD, EOS} & set(vocabulary.encode("a </s> <pad> <s> Ω")[:-1])


def test_every_kind_comes_back_from_its_files_and_from_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "own.spm").write_bytes(sentencepiece_model(ENGLISH, 90))
    write_dictionary(tmp_path / "dict.txt", GERMAN)
    (tmp_path / "codes").write_text(bpe_codes(GERMAN, 20))
    sides = opened(tmp_path, source="own.spm", target="dict.txt", target_bpe_codes="codes")
    assert not sides.joint
    for again in (Vocabularies.of_files(sides.files()), pickle.loads(pickle.dumps(sides))):  # noqa: S301
        for side in ("source", "target"):
            one, other = getattr(sides, side), getattr(again, side)
            assert (one.kind, one.order, one.pieces(), one.files()) == (
                other.kind,
                other.order,
                other.pieces(),
                other.files(),
            )
            assert one.encode_lines(GERMAN) == other.encode_lines(GERMAN)


NOT_USABLE = {
    "a list with a sequence": ("v.yml", b"- a\n- b\n", {}, "more than words and their numbers"),
    "a list with an alias": ("v.yml", b"a: &x 0\nb: *x\n", {}, "more than words and their numbers"),
    "a number twice": ("v.yml", b"a: 0\nb: 0\n", {}, "the numbers 0 to 1, each once, got 0 for 'b'"),
    "a gap": ("v.json", b'{"a": 0, "b": 7}', {}, "each once, got 7 for 'b'"),
    "no entry for unknown words": ("v.yml", b"a: 0\nb: 1\n", {}, "needs an entry <unk>"),
    "broken yaml": ("v.yml", b'"a: 0\n', {}, "it is no YAML"),
    "a word twice": ("v.yml", b"a: 0\na: 1\n", {}, "each word must stand once"),
    "no tokenizer": ("v.json", b'{"model": {"type": "none"}}', {}, "it is no tokenizer.json"),
    "broken JSON": ("v.json", b'{"a": ', {}, "cannot be used"),
    "deep JSON": ("v.json", b'{"a":' * 100_000, {}, "cannot be used"),
    "no model": ("v.spm", b"hello", {}, "it is no SentencePiece model"),
    "an empty model": ("v.model", b"", {}, "it is no SentencePiece model"),
    "no dictionary": ("dict.txt", b"a b c\n", {}, "must be a symbol, a space and a count"),
    "codes of one column": ("dict.txt", b"a 1\n", {"bpe_codes": b"#version: 0.2\na\n"}, "line 2 must be two sub-words"),
    "empty codes": ("dict.txt", b"a 1\n", {"bpe_codes": b""}, "line 1 must be two sub-words"),
    "codes that are no text": ("dict.txt", b"a 1\n", {"bpe_codes": b"\xff\xfe"}, "must be UTF-8, got byte 0xff"),
    "no model of pieces": ("dict.txt", b"a 1\n", {"pieces": b"nothing"}, "it is no SentencePiece model"),
}


@pytest.mark.parametrize("case", NOT_USABLE)
def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, more, words = NOT_USABLE[case]
    (tmp_path / name).write_bytes(content)
    for setting, other in more.items():
        (tmp_path / setting).write_bytes(other)
    with pytest.raises(CorpusError) as caught:
        opened(tmp_path, source=name, **{setting: setting for setting in more})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_codes_of_another_language_are_refused(tmp_path: Path) -> None:
    write_dictionary(
        tmp_path / "dict.txt",
        [apply_bpe.BPE(io.StringIO(bpe_codes(ENGLISH, 150))).process_line(line) for line in ENGLISH],
    )
    (tmp_path / "codes").write_text(bpe_codes(ENGLISH, 150))
    opened(tmp_path, source="dict.txt", bpe_codes="codes")
    greek = [line.translate({ord("a") + one: ord("α") + one for one in range(24)}) for line in GERMAN]
    (tmp_path / "codes").write_text(bpe_codes(greek, 150))
    with pytest.raises(CorpusError, match=r"only \d+% of what the BPE codes .* make stands in it"):
        opened(tmp_path, source="dict.txt", bpe_codes="codes")


def test_a_file_that_is_missing_and_one_that_is_no_file(tmp_path: Path) -> None:
    for name in ("absent.txt", "."):
        with pytest.raises(CorpusError, match=r"^vocabulary /"):
            opened(tmp_path, source=name)


def test_a_model_that_cuts_lines_itself_takes_no_codes(tmp_path: Path) -> None:
    (tmp_path / "own.spm").write_bytes(sentencepiece_model(ENGLISH, 90))
    with pytest.raises(CorpusError, match="it cuts lines itself: leave"):
        opened(tmp_path, source="own.spm", tokenise="moses")
