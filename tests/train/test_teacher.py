"""A teacher that is not trained: its distribution stands in the loss of each pass, its weights in the fingerprint."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import PAD
from hat_ray.model.checkpoints.native import load_sub, save_model
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import Position, UpdateBatches
from hat_ray.train.job import sub_fingerprint, train_sub, train_super
from hat_ray.train.workers import OneWorker

MODEL = ModelConfig(dropout=0.0)
CONFIG = TrainConfig(updates=1, max_tokens=300, label_smoothing=0.1, teacher="named", teacher_share=0.3)


@pytest.fixture(scope="module")
def teacher(tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A model with weights large enough to be sure of some words; of another shape than its students."""
    folder = Folder.at(tmp_path_factory.mktemp("teacher"))
    model = SubTransformer(tiny_space.largest(), len(corpus.vocabularies.target), ModelConfig(dropout=0.4), seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)
    save_model(folder, "model", model)
    return folder


def plain_loss_bits(
    student: torch.nn.Module, output: torch.Tensor, taught: torch.Tensor, target: torch.Tensor
) -> float:
    """The loss as its definition reads: position by position, over whole distributions."""
    total, tokens = 0.0, 0
    for row in range(target.shape[0]):
        for column in range(target.shape[1]):
            if (word := int(target[row, column])) == PAD:
                continue
            log_p = torch.log_softmax(output[row, column].double(), 0)
            q = torch.softmax(taught[row, column].double(), 0)
            smoothed = -(0.9 * log_p[word] + 0.1 * log_p.mean())
            total += float(0.7 * smoothed - 0.3 * (q * log_p).sum())
            tokens += 1
    return total / tokens / math.log(2)


def test_the_loss_is_the_mixture_that_its_settings_name(
    tiny_space: SearchSpace, corpus: Corpus, teacher: Folder, tmp_path: Path
) -> None:
    shape = tiny_space.smallest()
    result = train_sub(shape, tiny_space, corpus, MODEL, CONFIG, Folder.at(tmp_path), 7, teacher=teacher)
    largest = tiny_space.largest()
    dims = largest.encoder.embed_dim, largest.decoder.embed_dim
    sizes = corpus.vocabularies.sizes
    student = SubTransformer(
        shape, sizes[0], MODEL, super_dims=dims, target_vocab_size=sizes[1], seed=stream_seed(7, "init")
    )
    [(_, batch)], _ = UpdateBatches(corpus.train, 300, 1, 7, OneWorker()).update(Position())
    with torch.no_grad():
        output = student.eval()(batch.source, batch.target_in)
        taught = load_sub(teacher, "model").eval()(batch.source, batch.target_in)
    expected = plain_loss_bits(student, output, taught, batch.target_out)
    assert result.history[0].train_loss_bits == pytest.approx(expected, rel=1e-5)
    assert result.valid_loss_bits["model"] != pytest.approx(expected, rel=1e-3)  # validation has no teacher


def test_a_student_learns_its_teachers_words(
    tiny_space: SearchSpace, corpus: Corpus, teacher: Folder, tmp_path: Path
) -> None:
    """With the whole loss from the teacher, the student comes near a distribution that the text knows nothing of."""
    config = replace_all(CONFIG, updates=60, lr=5e-3, warmup_updates=5, teacher_share=1.0)
    shape = tiny_space.largest()
    source, taught = corpus.valid, load_sub(teacher, "model").eval()
    [(_, batch)], _ = UpdateBatches(source, 600, 1, 1, OneWorker()).update(Position())
    keep = batch.target_out.ne(PAD)

    def distance(folder: Folder) -> float:
        with torch.no_grad():
            own = torch.log_softmax(load_sub(folder, "model").eval()(batch.source, batch.target_in)[keep], 1)
            other = torch.log_softmax(taught(batch.source, batch.target_in)[keep], 1)
        return float((other.exp() * (other - own)).sum(1).mean())

    distances = {}
    for name, folder in (("taught", teacher), ("alone", None)):
        place = Folder.at(tmp_path / name)
        train_sub(shape, tiny_space, corpus, MODEL, config, place, 3, teacher=folder)
        distances[name] = distance(place)
    assert distances["taught"] < 0.6 * distances["alone"]


def test_all_passes_of_a_sandwich_have_the_teacher(
    tiny_space: SearchSpace, corpus: Corpus, teacher: Folder, tmp_path: Path
) -> None:
    config = replace_all(CONFIG, policy="sandwich", sandwich_random=0)
    result = train_super(tiny_space, corpus, MODEL, config, Folder.at(tmp_path), 7, teacher=teacher)
    sizes = corpus.vocabularies.sizes
    model = SuperTransformer(
        tiny_space, sizes[0], MODEL, target_vocab_size=sizes[1], seed=stream_seed(7, "init")
    ).eval()
    [(_, batch)], _ = UpdateBatches(corpus.train, 300, 1, 7, OneWorker()).update(Position())
    with torch.no_grad():
        taught = load_sub(teacher, "model").eval()(batch.source, batch.target_in)
        outputs = [
            model.output(batch.source, batch.target_in, shape).logits()
            for shape in (tiny_space.largest(), tiny_space.smallest())
        ]
    losses = [plain_loss_bits(model, output, taught, batch.target_out) for output in outputs]
    assert result.history[0].train_loss_bits == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_the_teachers_weights_are_part_of_a_trainings_fingerprint(
    tiny_space: SearchSpace, corpus: Corpus, teacher: Folder, tmp_path: Path
) -> None:
    other = Folder.at(tmp_path)
    save_model(other, "model", SubTransformer(tiny_space.smallest(), 300, MODEL, seed=9))

    def wanted(config: TrainConfig, folder: Folder | None) -> str:
        return sub_fingerprint(tiny_space.smallest(), tiny_space, corpus, MODEL, config, 1, folder)

    plain = TrainConfig(updates=1, max_tokens=300)
    assert wanted(plain, None) == wanted(replace_all(plain, teacher="elsewhere"), None)  # a place decides nothing
    found = {wanted(CONFIG, None), wanted(CONFIG, teacher), wanted(CONFIG, other)}
    found.add(wanted(replace_all(CONFIG, teacher_share=0.4), teacher))
    assert len(found) == 4


def test_one_teacher_at_a_time() -> None:
    with pytest.raises(ValidationError, match=r"distillation 0\.5 has the largest architecture as teacher"):
        TrainConfig(policy="sandwich", distillation=0.5, teacher="runs/toy")


def replace_all(config: TrainConfig, **changes: object) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **changes})
