"""Shards: equal to an in-memory table, mapped and not read, resumed after a kill, copied once a node."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hat_ray.corpus import prepare as prepare_module
from hat_ray.corpus import shards
from hat_ray.corpus.batches import collate, make_batches
from hat_ray.corpus.config import CorpusConfig, FilesConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.encode import EncodedChunk, EncodingJob, encode_here
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.toy.generate import generate
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.corpus.vocabulary.subwords import MODEL_FILE
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder

LINES = 46_000
"""Five chunks."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (shards, prepare_module):
        monkeypatch.setattr(module, "CHUNKS_PER_SHARD", 2)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    """A folder with text files; its training lines are 1,000 short sentences again and again, with a number."""
    place = tmp_path_factory.mktemp("texts")
    text = generate(ToyConfig(train_pairs=1_000, valid_pairs=20, test_pairs=20))
    source, target = (
        [f"{' '.join(lines[row % 1_000].split()[: 1 + row % 4])} {row % 97}" for row in range(LINES)]
        for lines in (text["train"].source, text["train"].target)
    )
    for split, sides in (
        ("train", (source, target)),
        ("valid", (text["valid"].source, text["valid"].target)),
        ("test", (text["test"].source, text["test"].target)),
    ):
        for side, lines in zip(("source", "target"), sides, strict=True):
            (place / f"{split}.{side}").write_text("\n".join(lines) + "\n")
    return place, source, target


def config_of(place: Path, **settings: object) -> CorpusConfig:
    names = {
        f"{split}_{side}": f"{split}.{side}" for split in ("train", "valid", "test") for side in ("source", "target")
    }
    values = {"vocab_size": 500, "byte_fallback": False, "max_length": 16, "vocab_sample_lines": 4_000, "protect": 0}
    values |= settings
    files = FilesConfig(folder=str(place), **names)
    return CorpusConfig(source="files", files=files, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prepared(texts: tuple[Path, list[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of three shards; copy it before you change it."""
    folder = tmp_path_factory.mktemp("prepared") / "out"
    with pytest.MonkeyPatch.context() as patch:
        for module in (shards, prepare_module):
            patch.setattr(module, "CHUNKS_PER_SHARD", 2)
        prepare(config_of(texts[0]), Folder.at(folder), seed=1)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_mapped_table_equals_one_made_in_memory(texts: tuple[Path, list[str], list[str]], prepared: Path) -> None:
    _, source, target = texts
    corpus = Corpus.load(Folder.at(prepared))
    summary = corpus.summary
    pairs = zip(*(corpus.vocabularies.source.encode_lines(lines) for lines in (source, target)), strict=True)
    plain = TokenTable.of([pair for pair in pairs if max(map(len, pair)) <= 16])
    assert len(summary.shards) == 3
    assert len(corpus.train) == len(plain) == summary.train.pairs < LINES
    for side, same in ((corpus.train.source, plain.source), (corpus.train.target, plain.target)):
        rows = np.arange(len(plain))
        assert np.array_equal(side.lengths, same.lengths)
        assert np.array_equal(side.gather(rows), same.gather(rows))
        assert np.array_equal(side.lengths_of(rows[::-7]), same.lengths_of(rows[::-7]))
    for one, other in zip(make_batches(corpus.train, 900, 1, 2)[:50], make_batches(plain, 900, 1, 2)[:50], strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(collate(corpus.train, one).target_in, collate(plain, other).target_in)
    median, p90 = np.percentile(plain.target.lengths, [50, 90], method="higher")
    assert (summary.train.target.median, summary.train.target.p90) == (median, p90)


def test_the_vocabulary_is_learned_from_source_lines_then_target_lines(
    texts: tuple[Path, list[str], list[str]], tmp_path: Path
) -> None:
    place, source, target = texts
    prepare(config_of(place, vocab_sample_lines=2 * LINES), Folder.at(tmp_path / "out"), seed=1)
    expected = learn_vocabulary([*source, *target], 500, byte_fallback=False)
    assert next((tmp_path / "out").rglob("*.model")).read_bytes() == expected.files()[MODEL_FILE]


PREPARE = """
import sys
from hat_ray.corpus import prepare, shards
from hat_ray.corpus.config import CorpusConfig
from hat_ray.storage.folder import Folder
shards.CHUNKS_PER_SHARD = prepare.CHUNKS_PER_SHARD = 2
prepare.prepare(CorpusConfig.model_validate_json(sys.argv[1]), Folder.at(sys.argv[2]), 1)
"""


def kill_in_the_middle(config: CorpusConfig, folder: Path) -> None:
    """Prepare in another process and kill it when the first shard is whole."""
    process = subprocess.Popen([sys.executable, "-c", PREPARE, config.model_dump_json(), str(folder)])
    deadline = time.monotonic() + 120
    before = set(folder.rglob("train-*.json"))
    while not (new := set(folder.rglob("train-00000.json")) - before):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=240) == -signal.SIGKILL
    assert not [path for path in new if path.with_name("train-00002.json").exists()]


def test_a_killed_preparation_is_no_corpus_and_goes_on_after_its_whole_shards(
    texts: tuple[Path, list[str], list[str]], prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(texts[0])
    killed = tmp_path / "killed"
    kill_in_the_middle(config, killed)
    with pytest.raises(CorpusError, match="holds no whole corpus"):
        Corpus.load(Folder.at(killed))
    told: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO):
        prepare(config, Folder.at(killed), 1, lambda done, total, _: told.append((done, total)))
    assert "resuming after" in caplog.text
    assert told[-1] == (LINES + 40, LINES + 40)
    left = content_of(killed)
    assert {name: left[name] for name in content_of(prepared)} == content_of(prepared)
    assert all(name.endswith(".tmp") for name in set(left) - set(content_of(prepared)))


def test_a_preparation_that_was_killed_after_its_last_shard_goes_on(
    texts: tuple[Path, list[str], list[str]], prepared: Path, tmp_path: Path
) -> None:
    """The last shard holds fewer chunks than the others, so what comes after it is not a multiple of theirs."""
    shutil.copytree(prepared, tmp_path / "killed")
    for name in ("summary.json", "*/valid.parquet", "*/test.parquet"):
        next((tmp_path / "killed").glob(name)).unlink()
    prepare(config_of(texts[0]), Folder.at(tmp_path / "killed"), 1)
    assert content_of(tmp_path / "killed") == content_of(prepared)


def test_an_earlier_corpus_holds_until_the_new_one_is_whole(
    texts: tuple[Path, list[str], list[str]], tmp_path: Path
) -> None:
    folder, config = tmp_path / "out", config_of(texts[0], max_length=10)
    before = prepare(config, Folder.at(folder), seed=1)
    kill_in_the_middle(config_of(texts[0]), folder)
    assert Corpus.load(Folder.at(folder)).summary == before
    assert len(Corpus.load(Folder.at(folder)).train) == before.train.pairs
    with pytest.raises(CorpusError, match="every training pair is longer"):
        prepare(config_of(texts[0], max_length=2), Folder.at(folder), seed=1)
    assert Corpus.load(Folder.at(folder)).summary == before
    after = prepare(config_of(texts[0]), Folder.at(folder), seed=1)
    assert Corpus.load(Folder.at(folder)).summary == after
    assert Folder.at(folder).list() == ["summary.json", after.data]


def test_text_that_changes_while_it_is_prepared_is_noticed(
    texts: tuple[Path, list[str], list[str]], tmp_path: Path
) -> None:
    for name in ("train", "valid", "test"):
        for side in ("source", "target"):
            (tmp_path / f"{name}.{side}").write_text((texts[0] / f"{name}.{side}").read_text())

    def encode_what_is_cut(job: EncodingJob, first: int) -> Iterator[EncodedChunk]:
        """Encode as always, on text that somebody changed once its vocabulary was learned."""
        for side in ("source", "target"):
            (tmp_path / f"train.{side}").write_text("one line\n")
        return encode_here(job, first)

    with pytest.raises(CorpusError, match=r"the text changed while it was prepared \(chunk 1 of 5 is not there\)"):
        prepare(config_of(tmp_path), Folder.at(tmp_path / "out"), seed=1, encode=encode_what_is_cut)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("harm", ["cut", "gone", "other"])
def test_a_damaged_shard_is_told(prepared: Path, tmp_path: Path, harm: str) -> None:
    folder = Folder.at(shutil.copytree(prepared, tmp_path / "out"))
    summary = Corpus.load(folder).summary
    path = Path(folder.child(summary.data).path(summary.shards[1].name))
    content = path.read_bytes()
    path.unlink() if harm == "gone" else path.write_bytes(content[:-100] if harm == "cut" else bytes(len(content)))
    with pytest.raises(CorpusError, match=r"train-00001\.arrow .*prepare the corpus again") as caught:
        assert len(Corpus.load(folder).train)
    assert "\n" not in str(caught.value)


LOAD = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from hat_ray.corpus.corpus import Corpus
from hat_ray.storage.folder import Folder
print(int(Corpus.load(Folder.at(sys.argv[1])).train.source.lengths.sum()))
"""


def test_a_node_copies_each_remote_shard_once_however_many_workers_start(prepared: Path, tmp_path: Path) -> None:
    remote = Folder.at(f"fsspec+{prepared.as_uri()}")
    summary = Corpus.load(remote).summary
    environment = {**os.environ, "HAT_RAY_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", LOAD, remote.uri]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    workers = [subprocess.Popen(command, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    results = [worker.communicate(timeout=240) for worker in workers]
    assert {out.strip() for out, _ in results} == {str(summary.train.source.tokens)}
    assert sum(told.count("copying") for _, told in results) == len(summary.shards) == 3
    copies = [path for path in (tmp_path / "cache" / "shards").iterdir() if not path.name.startswith(".")]
    assert {path.name for path in copies} == {f"{shard.sha256}.arrow" for shard in summary.shards}


def test_a_remote_shard_that_is_damaged_on_its_way_is_not_kept(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAT_RAY_CACHE", str(tmp_path / "cache"))
    remote = Folder.at(f"fsspec+{shutil.copytree(prepared, tmp_path / 'bucket').as_uri()}")
    path = next((tmp_path / "bucket").rglob("train-00000.arrow"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorpusError, match="is damaged"):
        assert len(Corpus.load(remote).train)
    assert not [path for path in (tmp_path / "cache" / "shards").iterdir() if not path.name.endswith(".lock")]
