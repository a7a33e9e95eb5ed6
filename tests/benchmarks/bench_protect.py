"""What a translation must not change: the share of 1,000 generated sentences whose values come through unharmed.

The model is of the tutorial's size: its settings of text, its space's largest architecture, trained from scratch.
Half of the sentences are frames of software and mail, half are test sentences with values between their words. Figures,
by kind of value: unharmed with protection, of these without a repair (the model alone wrote each symbol once), and
unharmed by the same model without protection. Then BLEU of the test set, of this model and of one that was trained
without symbols, on the same text by the same settings. Run with
    HAT_RAY_BENCH_TEXT=FOLDER HAT_RAY_BENCH_FOLDER=FOLDER pytest -m benchmark -s --timeout 14400 \
        tests/benchmarks/bench_protect.py
FOLDER of the text holds train.en.gz, train.de.gz, val.*, test.*. The other keeps the trainings: the same command
resumes where it was stopped. `HAT_RAY_BENCH_UPDATES` (500), `HAT_RAY_BENCH_SHARE` (`corpus.protect`; its default) and
`HAT_RAY_BENCH_SEEDS` (1) set its size.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.protection.masking import Protection
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import evaluate
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.recipe import Recipe, parse_recipe
from hat_ray.storage.folder import Folder
from hat_ray.train.job import MODEL, train_sub
from tests.corpus.protection.sentences import KINDS, draw_sentences, unharmed

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(14400)]

UPDATES = int(os.environ.get("HAT_RAY_BENCH_UPDATES", "500"))
TUTORIAL = Path(__file__).parents[2] / "hat_ray" / "recipes" / "TUTORIAL.md"


def tutorial_recipe(text: str, share: str) -> Recipe:
    """Return the recipe that the tutorial prints, on a folder of text."""
    printed = TUTORIAL.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    changes = [f"corpus.files.folder={text}", "retrain.init=scratch", f"retrain.updates={UPDATES}", "model.dropout=0.1"]
    changes += ["retrain.lr=3.0e-3", f"retrain.warmup_updates={UPDATES // 5}", f"retrain.validate_every={UPDATES}"]
    if share:
        changes.append(f"corpus.protect={share}")
    return parse_recipe(printed, "the tutorial's recipe", changes)


def trained(recipe: Recipe, folder: Folder, seed: int) -> tuple[object, Corpus]:
    place = folder.child("corpus")
    prepare(recipe.corpus, place, seed)
    corpus = Corpus.load(place)
    space = recipe.space.build()
    config = recipe.retrain.model_copy(update={"tensorboard": False, "checkpoint_every": 100})
    result = train_sub(space.largest(), space, corpus, recipe.model, config, folder.child("model"), seed)
    print(f"seed {seed}: validation loss {result.valid_loss_bits['model']:.3f} bits a token, {folder.uri}")
    return load_sub(folder.child("model"), MODEL).eval(), corpus


def test_values_that_come_through_a_model_of_the_tutorials_size():
    if "HAT_RAY_BENCH_TEXT" not in os.environ or "HAT_RAY_BENCH_FOLDER" not in os.environ:
        pytest.skip("HAT_RAY_BENCH_TEXT names the text, HAT_RAY_BENCH_FOLDER the folder of the trainings")
    torch.set_num_threads(1)
    text, kept = os.environ["HAT_RAY_BENCH_TEXT"], Folder.at(os.environ["HAT_RAY_BENCH_FOLDER"])
    share = os.environ.get("HAT_RAY_BENCH_SHARE", "")
    search = EvaluateConfig(beam=5, floor_pairs=0)
    for seed in range(1, int(os.environ.get("HAT_RAY_BENCH_SEEDS", "1")) + 1):
        model, corpus = trained(tutorial_recipe(text, share), kept.child(f"protect{share}-{UPDATES}-{seed}"), seed)
        sentences = draw_sentences(1_000, seed, corpus.test.source_text or ())
        protection = Protection()
        counts = {name: Counter[str]() for name in ("all", "unharmed", "alone", "plain")}
        masked = [protection.before(one.text) for one in sentences]
        found = translate(model, corpus.vocabularies, [text for text, _ in masked], search)
        plain = translate(model, corpus.vocabularies, [one.text for one in sentences], search)
        for one, (_, known), raw, bare in zip(sentences, masked, found, plain, strict=True):
            repaired = protection.repaired
            text_out = protection.after(raw, known)
            counts["all"][one.kind] += 1
            counts["unharmed"][one.kind] += unharmed(one, text_out)
            counts["alone"][one.kind] += unharmed(one, text_out) and protection.repaired == repaired
            counts["plain"][one.kind] += unharmed(one, bare)
        for kind in (*KINDS, "mixed"):
            print(f"seed {seed} {kind:12}", *(f"{name} {counts[name][kind]:4}" for name in counts))
        print(f"seed {seed} {'together':12}", *(f"{name} {counts[name].total():4}" for name in counts))
        for one, (_, known), raw in list(zip(sentences, masked, found, strict=True))[:12]:
            print(f"  {one.text}\n    {raw}\n    {protection.after(raw, known)}")
        print(f"seed {seed} BLEU with symbols {evaluate(model, corpus, search).score.bleu:.2f}")
        other, plain_corpus = trained(tutorial_recipe(text, "0"), kept.child(f"plain-{UPDATES}-{seed}"), seed)
        print(f"seed {seed} BLEU without {evaluate(other, plain_corpus, search).score.bleu:.2f}")
        assert counts["unharmed"].total() >= 990
