"""The teacher's translations of a whole corpus, by chunks, resumed and put together in order."""

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.config import CorpusConfig, FilesConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.toy.generate import generate
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.distil import Distilled, distil, training_sentences
from hat_ray.evaluate.hypotheses import translate_as
from hat_ray.evaluate.translate import translate
from hat_ray.model.config import ModelConfig
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.storage.folder import Folder
from tests.processes import process_of

torch.set_num_threads(1)
CONFIG = EvaluateConfig(beam=2, max_length_factor=0, max_length_extra=6)
TOY = ToyConfig(train_pairs=60, valid_pairs=5, test_pairs=5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = Folder.at(tmp_path_factory.mktemp("corpus"))
    prepare(CorpusConfig(toy=TOY, vocab_size=200, max_length=45), folder, seed=1)
    return Corpus.load(folder)


def model_of(corpus: Corpus, seed: int = 3) -> SubTransformer:
    shape = Architecture(EncoderShape(16, (32,), (2,)), DecoderShape(16, (32,), (2,), (2,), (1,)), qkv_dim=16)
    return SubTransformer(shape, corpus.vocabularies.sizes[0], ModelConfig(), seed=seed)


@pytest.fixture(scope="module")
def teacher(corpus: Corpus) -> SubTransformer:
    return model_of(corpus)


def distilled(
    model: SubTransformer,
    corpus: Corpus,
    folder: Folder,
    config: EvaluateConfig,
    progress: Progress = no_progress,
    chunk_pairs: int = 2_000,
) -> Distilled:
    """Distil a corpus with a model, whose weights and search are its identity."""

    def lines(sources: Sequence[str], *, first: int = 1) -> list[str]:
        return translate_as(model, corpus.vocabularies, sources, config, Decoding(), first=first)

    identity = f"{sum(float(one.double().sum()) for one in model.state_dict().values())} {config}"
    return distil(lines, training_sentences(corpus), folder, identity, progress, chunk_pairs=chunk_pairs)


def test_every_kept_source_gets_its_translation_in_order(
    corpus: Corpus, teacher: SubTransformer, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    made = distilled(
        teacher, corpus, Folder.at(tmp_path), CONFIG, lambda done, total, _: told.append((done, total)), chunk_pairs=16
    )
    sources = Path(made.source).read_text().splitlines()
    kept = [s for s in generate(TOY)["train"].source if len(corpus.vocabularies.source.encode(s)) <= 45]
    assert 10 < corpus.summary.train.pairs == len(sources) == made.lines < 60
    assert [line for line in kept if line in sources] == sources
    assert Path(made.target).read_text().split("\n")[:-1] == translate(teacher, corpus.vocabularies, sources, CONFIG)
    assert told == sorted(told)
    assert told[-1] == (made.lines, made.lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["distil.json", "train.source", "train.target"]


def test_a_source_that_is_cut_is_named_by_its_line_of_the_whole_text(
    corpus: Corpus, teacher: SubTransformer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lengths = [len(corpus.train.source[row]) for row in range(len(corpus.train))]
    limit = sorted(lengths)[-3]
    config = CONFIG.model_copy(update={"max_source_length": limit})
    with caplog.at_level(logging.WARNING):
        made = distilled(teacher, corpus, Folder.at(tmp_path), config, chunk_pairs=1)
    sources = Path(made.source).read_text().splitlines()
    rows = [row for row, line in enumerate(sources) if len(corpus.vocabularies.source.encode(line)) > limit]
    assert len(rows) in (1, 2)
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"1 of 1 lines are longer than {limit} tokens and were cut (first: line {row + 1} of {lengths[row]} tokens)"
        for row in rows
    ]


def test_a_killed_distillation_goes_on_with_what_is_missing_and_ends_alike(
    corpus: Corpus, teacher: SubTransformer, tmp_path: Path
) -> None:
    whole = Path(distilled(teacher, corpus, Folder.at(tmp_path / "whole"), CONFIG, chunk_pairs=10).target).read_text()
    killed = tmp_path / "killed"
    distil_until_killed(teacher, corpus, killed, at=20)
    assert not (killed / "train.target").exists()
    parts = killed / "parts"
    assert sorted(path.name for path in parts.iterdir()) == [
        f"00000{number}.train.{side}" for number in (0, 1) for side in ("source", "target")
    ]
    (parts / "000001.train.target").unlink()  # a chunk cut short has no target file
    (parts / "000000.train.target").write_text("not made again\n" * 10)
    made = distilled(teacher, corpus, Folder.at(killed), CONFIG, chunk_pairs=10)
    assert Path(made.target).read_text().splitlines() == ["not made again"] * 10 + whole.splitlines()[10:]
    written = {path: path.stat().st_mtime_ns for path in killed.rglob("*")}
    assert distilled(teacher, corpus, Folder.at(killed), CONFIG, chunk_pairs=10) == made
    assert {path: path.stat().st_mtime_ns for path in killed.rglob("*")} == written


def distil_until_killed(teacher: SubTransformer, corpus: Corpus, folder: Path, at: int) -> None:
    """Translate in another process, which dies when so many lines are done."""

    def die(done: int, _total: int, _figures: object) -> None:
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)

    process = process_of(lambda: distilled(teacher, corpus, Folder.at(folder), CONFIG, die, chunk_pairs=10))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL


def test_another_teacher_or_another_search_starts_anew(corpus: Corpus, teacher: SubTransformer, tmp_path: Path) -> None:
    first = Path(distilled(teacher, corpus, Folder.at(tmp_path), CONFIG).target).read_text()
    other = Path(distilled(model_of(corpus, seed=4), corpus, Folder.at(tmp_path), CONFIG).target).read_text()
    assert other != first
    greedy = CONFIG.model_copy(update={"beam": 1, "max_length_extra": 3})
    assert Path(distilled(teacher, corpus, Folder.at(tmp_path), greedy).target).read_text() not in (first, other)


def test_a_recipe_can_train_on_what_was_made(corpus: Corpus, teacher: SubTransformer, tmp_path: Path) -> None:
    made = distilled(teacher, corpus, Folder.at(tmp_path / "made"), CONFIG)
    for side in ("source", "target"):
        (tmp_path / f"held.{side}").write_text("\n".join(getattr(generate(TOY)["test"], side)))
    held = {
        f"{split}_{side}": str(tmp_path / f"held.{side}")
        for split in ("valid", "test")
        for side in ("source", "target")
    }
    files = FilesConfig(train_source=made.source, train_target=made.target, **held)
    config = CorpusConfig(source="files", files=files, vocab_size=120, byte_fallback=False)
    summary = prepare(config, Folder.at(tmp_path / "student"), seed=1)
    assert summary.train.pairs == made.lines - made.empty
