from dataclasses import dataclass

import pytest
import sacrebleu
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import corpus_floors, evaluate
from hat_ray.evaluate.translate import translate
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.presets import preset
from hat_ray.storage.folder import Folder

torch.set_num_threads(1)
CONFIG = EvaluateConfig(beam=2, sentences=20, floor_pairs=200)


@dataclass
class Prepared:
    corpus: Corpus
    model: SubTransformer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = Folder.at(tmp_path_factory.mktemp("corpus"))
    toy = ToyConfig(train_pairs=500, valid_pairs=20, test_pairs=30)
    prepare(CorpusConfig(toy=toy, vocab_size=400), folder, seed=1)
    corpus = Corpus.load(folder)
    return Prepared(
        corpus, SubTransformer(preset("toy").smallest(), corpus.vocabularies.sizes[0], ModelConfig(), seed=1)
    )


def test_the_score_is_sacrebleus_of_the_translations_against_the_corpus_own_text(prepared: Prepared) -> None:
    found = evaluate(prepared.model, prepared.corpus, CONFIG)
    lines = found.translations
    assert prepared.corpus.test.source_text is not None
    assert prepared.corpus.test.target_text is not None
    assert lines.sources == prepared.corpus.test.source_text[:20]
    assert lines.references == prepared.corpus.test.target_text[:20]
    assert list(lines.hypotheses) == translate(prepared.model, prepared.corpus.vocabularies, lines.sources, CONFIG)
    assert found.score.bleu == sacrebleu.corpus_bleu(list(lines.hypotheses), [list(lines.references)]).score
    assert found.score.bleu_signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert (found.score.sentences, found.score.beam) == (20, 2)
    assert found.score.sentences_per_second == pytest.approx(20 / found.score.seconds)
    assert found.score.peak_memory_bytes > 50 << 20


def test_floors_come_from_the_corpus_own_training_pairs(prepared: Prepared) -> None:
    floors = corpus_floors(prepared.corpus, CONFIG)
    assert floors is not None
    assert floors.train_pairs == 200
    assert 0 <= floors.copy_bleu < floors.nearest_bleu < 100
    assert corpus_floors(prepared.corpus, CONFIG.model_copy(update={"floor_pairs": 0})) is None
