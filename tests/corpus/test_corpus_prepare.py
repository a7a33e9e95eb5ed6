import gzip
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from hat_ray.corpus.batches import collate, make_batches
from hat_ray.corpus.config import CorpusConfig, FilesConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.vocabulary import EOS
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder

FILES = ["sentencepiece.model", "test.parquet", "train-00000.arrow", "train-00000.json", "valid.parquet"]
TOY = CorpusConfig(toy=ToyConfig(train_pairs=300, valid_pairs=40, test_pairs=40), vocab_size=300)
SOURCES = ["a red dog runs .", "", "a cat sleeps .", "the dog sees the cat and the cat sees the dog again and again ."]
TARGETS = ["ein roter Hund rennt .", "nichts", "eine Katze schläft .", "der Hund sieht die Katze und so weiter ."]


def files_config(place: Path, changes: Mapping[str, bytes] | None = None, **settings: object) -> CorpusConfig:
    paths = {}
    for split in ("train", "valid", "test"):
        for side, lines in (("source", SOURCES), ("target", TARGETS)):
            content = (changes or {}).get(f"{split}_{side}", "\n".join(lines).encode() + b"\n")
            paths[f"{split}_{side}"] = str(place / f"{split}.{side}")
            (place / f"{split}.{side}").write_bytes(content)
    values = {"source": "files", "files": FilesConfig(**paths), "vocab_size": 64, "byte_fallback": False}
    return CorpusConfig(**{**values, "leaks": "warn", **settings})  # type: ignore[arg-type]


def content_of(folder: Folder) -> dict[str, bytes]:
    root = Path(folder.root)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_text_files_become_a_whole_folder_and_come_back(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "out")
    summary = prepare(files_config(tmp_path, max_length=15), folder, seed=1)
    assert folder.list() == ["summary.json", summary.data]
    assert folder.child(summary.data).list() == FILES
    assert (summary.train.pairs, summary.train.dropped_empty, summary.train.dropped_long) == (2, 1, 1)
    assert (summary.test.pairs, summary.test.dropped_empty, summary.test_sources_in_train) == (4, 0, 3)
    corpus = Corpus.load(folder)
    assert corpus.summary == summary
    assert corpus.test.source_text == tuple(SOURCES)
    assert corpus.test.target_text == tuple(TARGETS)
    for table, lines in ((corpus.train.source, [SOURCES[0], SOURCES[2]]), (corpus.test.target, TARGETS)):
        assert [corpus.vocabularies.target.decode(table[i].tolist()) for i in range(len(table))] == lines
        assert all(table[i][-1] == EOS for i in range(len(table)))
    assert summary.train.source.longest <= 15
    assert summary.test.source.longest > 15


def test_preparing_twice_gives_equal_bytes_and_the_second_time_only_reads(tmp_path: Path) -> None:
    one, two = Folder.at(tmp_path / "one"), Folder.at(tmp_path / "two")
    summary = prepare(TOY, one, seed=1)
    prepare(TOY, two, seed=1)
    assert content_of(one) == content_of(two)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    assert prepare(TOY, one, seed=1) == summary
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")} == before


def test_changed_settings_or_text_are_noticed(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "out")
    config = files_config(tmp_path)
    first = prepare(config, folder, seed=1)
    (tmp_path / "test.source").write_text("\n".join(["something else", *SOURCES[1:]]))
    second = prepare(config, folder, seed=1)
    assert second.fingerprint != first.fingerprint
    assert (Corpus.load(folder).test.source_text or ())[0] == "something else"
    assert prepare(files_config(tmp_path, vocab_size=60), folder, seed=1).vocabulary_size == 60


def test_a_folder_cut_short_is_made_anew(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "out")
    prepare(TOY, folder, seed=1)
    whole = content_of(folder)
    data = Corpus.load(folder).summary.data
    folder.delete("summary.json")
    folder.write_bytes(f"{data}/train-00000.arrow", b"half")
    with pytest.raises(CorpusError, match="no whole corpus"):
        Corpus.load(folder)
    prepare(TOY, folder, seed=1)
    assert content_of(folder) == whole


def test_vocabulary_lines_are_sampled_by_the_seed_alone(tmp_path: Path) -> None:
    config = TOY.model_copy(update={"vocab_sample_lines": 200})
    models = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare(config, Folder.at(tmp_path / name), seed=seed)
        models.append(next((tmp_path / name).rglob("sentencepiece.model")).read_bytes())
    assert models[0] == models[1] != models[2]


@pytest.mark.parametrize(
    ("changes", "settings", "complaint"),
    [
        ({"valid_target": b"one\ntwo\n"}, {}, r"valid\.source has 4 and .*valid\.target has 2"),
        ({"test_source": b""}, {}, r"test\.source is empty"),
        ({"train_target": b"a\nb\n\xff\nd\n"}, {}, r"train\.target line 3 holds the byte 0xff"),
        ({}, {"vocab_size": 5000}, r"set corpus\.vocab_size to \d+ or less"),
        ({}, {"vocab_size": 10}, r"set corpus\.vocab_size to \d+ or more"),
        ({}, {"max_length": 2}, "every training pair is longer than 2 tokens"),
        ({"train_source": b"\n\n\nx\n", "train_target": b"a\nb\nc\n\n"}, {}, "every training pair lacks a side"),
    ],
)
def test_bad_text_is_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, bytes], settings: dict[str, object], complaint: str
) -> None:
    folder = Folder.at(tmp_path / "out")
    with pytest.raises(CorpusError, match=complaint) as caught:
        prepare(files_config(tmp_path, changes, **settings), folder, seed=1)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_bad_text_leaves_an_earlier_corpus_as_it_was(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "out")
    prepare(files_config(tmp_path), folder, seed=1)
    before = content_of(folder)
    with pytest.raises(CorpusError):
        prepare(files_config(tmp_path, {"test_target": b"\xff"}), folder, seed=1)
    assert content_of(folder) == before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    config = files_config(tmp_path)
    (tmp_path / "valid.source").unlink()
    with pytest.raises(CorpusError, match=r"valid\.source does not exist"):
        prepare(config, Folder.at(tmp_path / "out"), seed=1)


def test_text_files_need_paths() -> None:
    with pytest.raises(ValueError, match=r"set files\.train_source"):
        CorpusConfig(source="files")


def test_gzip_files_give_the_same_corpus(tmp_path: Path) -> None:
    plain = files_config(tmp_path)
    prepare(plain, Folder.at(tmp_path / "one"), seed=1)
    for path in tmp_path.glob("*.source"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    prepare(plain, Folder.at(tmp_path / "two"), seed=1)
    assert content_of(Folder.at(tmp_path / "one")) == content_of(Folder.at(tmp_path / "two"))


def test_progress_reaches_its_total_and_a_remote_folder_will_do(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = Folder.at(f"fsspec+{(tmp_path / 'remote').as_uri()}")
    prepare(TOY, folder, seed=1, progress=lambda done, total, _: told.append((done, total)))
    assert told[-1] == (380, 380)
    assert told == sorted(told)
    corpus = pickle.loads(pickle.dumps(Corpus.load(folder)))  # noqa: S301
    assert len(corpus.train) == corpus.summary.train.pairs > 250


def test_multi30k_runs_through(shared: Path, tmp_path: Path) -> None:
    place = shared / "corpora" / "multi30k-en-de"
    names = {"train": "val", "valid": "test", "test": "test2018"}
    paths = {
        f"{split}_{side}": str(place / f"{name}.{language}.gz")
        for split, name in names.items()
        for side, language in (("source", "en"), ("target", "de"))
    }
    config = CorpusConfig(source="files", files=FilesConfig(**paths), vocab_size=2000)
    folder = Folder.at(tmp_path / "out")
    summary = prepare(config, folder, seed=1)
    assert (summary.train.pairs, summary.valid.pairs, summary.test.pairs) == (1014, 1000, 1071)
    corpus = Corpus.load(folder)
    lines = corpus.test.target_text or ()
    decoded = [corpus.vocabularies.target.decode(corpus.test.target[i].tolist()) for i in range(len(lines))]
    assert decoded == list(lines)
    batch = collate(corpus.train, make_batches(corpus.train, 1000, 1, 0)[0])
    assert batch.source.numel() <= 1000


def test_what_was_read_kept_and_left_out_is_told_with_every_reason(tmp_path: Path) -> None:
    """Every pair that is read is either kept, held out, or told with a reason."""
    lines = ["a dog", "a cat", "", "a dog", "the dog sees the cat and the cat sees the dog again and again", "x y z w"]
    targets = ["ein hund", "eine katze", "nichts", "ein hund", "der hund", "x"]
    files = {"train": (lines * 5, targets * 5), "test": (["a dog", "a cow"], ["ein hund", "eine kuh"])}
    for split, sides in files.items():
        for side, text in zip(("source", "target"), sides, strict=True):
            (tmp_path / f"{split}.{side}").write_text("\n".join(text) + "\n")
    names = {f"{split}_{side}": str(tmp_path / f"{split}.{side}") for split in files for side in ("source", "target")}
    config = CorpusConfig(
        source="files",
        leaks="warn",
        files=FilesConfig(**names, valid_every=6),
        vocab_size=40,
        byte_fallback=False,
        max_length=12,
        max_ratio=4,
        deduplicate=True,
    )
    summary = prepare(config, Folder.at(tmp_path / "out"), 1)
    train = summary.train
    assert train.read == 30
    assert train.held_out == summary.valid.pairs == 5
    assert train.pairs + sum(train.left_out.values()) + train.held_out == 30
    told = train.kept_text
    assert told.startswith(f"{train.pairs} of 30 pairs kept (")
    for reason in ("longer than corpus.max_length", "5 without a side", "repeated", "5 held out for validation"):
        assert reason in told
    assert summary.test_sources_in_train == 1
    assert "1 test source stands in the training text: scores are too high" in str(summary.leak())


def test_sources_that_validation_takes_are_removed_from_training(tmp_path: Path) -> None:
    """Every fifth pair is validation's; its source may stand before it and after it, in the same file."""
    lines = [f"dog {number % 13} and cat {number % 3}" for number in range(60)] + [""]
    for name, text in (("train", lines), ("test", ["dog 1 and cat 1", "", "a cow"])):
        (tmp_path / name).write_text("\n".join(text) + "\n")
    names = {f"{split}_{side}": str(tmp_path / split) for split in ("train", "test") for side in ("source", "target")}
    files = FilesConfig(**names, valid_every=5)
    config = CorpusConfig(source="files", files=files, vocab_size=24, byte_fallback=False, protect=0)
    summary = prepare(config, Folder.at(tmp_path / "out"), 1)
    held = [*lines[4::5], "dog 1 and cat 1"]
    candidates = [line for number, line in enumerate(lines, 1) if number % 5 and line]
    leaks = [line for line in candidates if line in held]
    train = summary.train
    assert (train.pairs, train.dropped_leak, train.dropped_empty) == (len(candidates) - len(leaks), len(leaks), 1)
    assert 0 < len(leaks) < len(candidates) / 2
    assert summary.valid_sources_in_train == len(set(lines[4::5]) & set(leaks)) > 0
    assert summary.test_sources_in_train == 1
    corpus = Corpus.load(Folder.at(tmp_path / "out"))
    trained_on = {
        corpus.vocabularies.source.decode(row.tolist())
        for row in map(corpus.train.source.__getitem__, range(train.pairs))
    }
    assert trained_on == set(candidates) - set(leaks)


def test_a_clean_corpus_has_nothing_to_tell(tmp_path: Path) -> None:
    toy = ToyConfig(train_pairs=50, valid_pairs=5, test_pairs=5)
    summary = prepare(CorpusConfig(toy=toy, vocab_size=200), Folder.at(tmp_path), 1)
    assert summary.train.kept_text == "50 of 50 pairs kept"
    assert (summary.test_sources_in_train, summary.leak()) == (0, None)
