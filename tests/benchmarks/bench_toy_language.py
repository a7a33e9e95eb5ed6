"""The toy language is worth searching over: at equal updates, capacity shows, and more than chance does.

pytest -m benchmark -s tests/benchmarks/bench_toy_language.py
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sacrebleu

from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.recipe import load_recipe
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder
from hat_ray.train.job import train_sub

RECIPE = load_recipe("toy")
SENTENCES = 300

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(5400)]


@dataclass(frozen=True)
class School:
    """Trains architectures of the toy space alike, each once, and scores them on the test split."""

    corpus: Corpus
    place: Path
    _known: dict[tuple[Architecture, int], float] = field(default_factory=dict)

    def bleu(self, architecture: Architecture, seed: int) -> float:
        if (architecture, seed) not in self._known:
            self._known[architecture, seed] = self._train(architecture, seed)
        return self._known[architecture, seed]

    def _train(self, architecture: Architecture, seed: int) -> float:
        folder = Folder.at(self.place / f"{architecture.id}-{seed}")
        train_sub(architecture, TOY, self.corpus, RECIPE.model, RECIPE.retrain, folder, seed)
        source, target = self.corpus.test.source_text or (), self.corpus.test.target_text or ()
        lines = translate(load_sub(folder, "model"), self.corpus.vocabularies, source[:SENTENCES])
        return float(sacrebleu.corpus_bleu(lines, [list(target[:SENTENCES])]).score)


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> School:
    place = tmp_path_factory.mktemp("school")
    folder = Folder.at(place / "corpus")
    prepare(RECIPE.corpus, folder, seed=1)
    return School(Corpus.load(folder), place)


def test_capacity_is_worth_five_bleu_and_seeds_spread_by_less_than_a_third_of_it(school: School) -> None:
    smallest = [school.bleu(TOY.smallest(), seed) for seed in (1, 2, 3)]
    gap = school.bleu(TOY.largest(), 1) - smallest[0]
    print(f"smallest {smallest}, gap to the largest {gap:.1f}")
    assert gap >= 5
    assert max(smallest) - min(smallest) < gap / 3


def test_depth_and_width_each_help_on_their_own(school: School) -> None:
    small, large = TOY.smallest(), TOY.largest()
    widths = {"encoder": large.encoder.embed_dim, "decoder": large.decoder.embed_dim}
    wide = replace(
        small,
        encoder=replace(small.encoder, embed_dim=widths["encoder"]),
        decoder=replace(small.decoder, embed_dim=widths["decoder"]),
    )
    layers = large.encoder.depth
    deep = replace(
        small,
        encoder=replace(small.encoder, ffn_dims=small.encoder.ffn_dims * layers, heads=small.encoder.heads * layers),
        decoder=replace(
            small.decoder,
            ffn_dims=small.decoder.ffn_dims * layers,
            self_heads=small.decoder.self_heads * layers,
            cross_heads=small.decoder.cross_heads * layers,
            cross_layers=small.decoder.cross_layers * layers,
        ),
    )
    scores = {name: school.bleu(value, 1) for name, value in (("small", small), ("wide", wide), ("deep", deep))}
    print(scores)
    assert all(scores["small"] < scores[name] for name in ("wide", "deep"))
