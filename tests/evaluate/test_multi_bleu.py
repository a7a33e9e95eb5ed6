"""multi-bleu against its definition: n-grams of up to four words, clipped by the reference, and the brevity penalty."""

import math
from collections import Counter
from pathlib import Path

import pytest

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import CorpusError
from hat_ray.evaluate import multi_bleu as module
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import evaluate
from hat_ray.evaluate.multi_bleu import multi_bleu
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.presets import preset
from hat_ray.storage.folder import Folder

HYPOTHESES = ["Das well-known Haus, das alt ist.", "Es regnet heute nicht.", "A b c d e"]
REFERENCES = ["Das well-known Haus, das rot ist.", "Es regnet heute nicht mehr.", "A b c d f"]
TOKENS = (
    ["Das well ##AT##-##AT## known Haus , das alt ist .", "Es regnet heute nicht .", "A b c d e"],
    ["Das well ##AT##-##AT## known Haus , das rot ist .", "Es regnet heute nicht mehr .", "A b c d f"],
)


def defined(hypotheses: list[str], references: list[str]) -> float:
    """Return what multi-bleu.perl prints for tokens between spaces."""
    logs = []
    for size in range(1, 5):
        right = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            grams = [
                Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
                for words in (hypothesis.split(), reference.split())
            ]
            right += sum((grams[0] & grams[1]).values())
            total += sum(grams[0].values())
        if not right:
            return 0.0
        logs.append(math.log(right / total))
    ours, theirs = (sum(len(line.split()) for line in side) for side in (hypotheses, references))
    return 100 * math.exp(sum(logs) / 4 + min(0.0, 1 - theirs / ours))


def test_the_score_is_that_of_moses_tokens_with_dashes_cut() -> None:
    pytest.importorskip("sacremoses")
    score, signature = multi_bleu(HYPOTHESES, REFERENCES, "de")
    assert score == pytest.approx(defined(*TOKENS), abs=1e-9)
    assert 30 < score < 90
    assert signature.startswith("multi-bleu|nrefs:1|case:mixed|tok:moses-de|dashes:split|smooth:none|sacremoses:")


def test_nothing_is_smoothed_and_equal_texts_have_a_hundred() -> None:
    pytest.importorskip("sacremoses")
    assert multi_bleu(["a b c d"], ["a b c e"], "en")[0] == 0  # sacreBLEU's smoothing would give it a share
    assert multi_bleu(["a b c"], ["a b c"], "en")[0] == 0  # no four words in a row
    assert multi_bleu(["a b c d"], ["a b c d"], "en")[0] == pytest.approx(100)
    with pytest.raises(CorpusError, match="equally many lines"):
        multi_bleu(["a"], [], "en")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sacremoses", None)
    with pytest.raises(CorpusError, match=r"pip install 'hat-ray\[vocabularies\]'"):
        multi_bleu(["a"], ["a"], "en")


def test_an_evaluation_has_it_beside_sacrebleu_where_the_recipe_asks(tmp_path: Path) -> None:
    pytest.importorskip("sacremoses")
    toy = ToyConfig(train_pairs=300, valid_pairs=10, test_pairs=10)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(tmp_path), seed=1)
    corpus = Corpus.load(Folder.at(tmp_path))
    model = SubTransformer(preset("toy").smallest(), corpus.vocabularies.sizes[0], ModelConfig(), seed=1)
    config = EvaluateConfig(beam=1, sentences=4, metric="multi-bleu")
    found = evaluate(model, corpus, config)
    lines = found.translations
    expected = multi_bleu(lines.hypotheses, lines.references, "de")
    assert (found.score.multi_bleu, found.score.multi_bleu_signature) == expected
    usual = evaluate(model, corpus, config.model_copy(update={"metric": "sacrebleu"})).score
    assert (usual.multi_bleu, usual.bleu) == (None, found.score.bleu)
    assert EvaluateConfig().result_settings().keys() & {"metric"} == set()
