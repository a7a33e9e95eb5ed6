"""A trained model for benchmarks that need one, named by the environment."""

import os

import pytest

from hat_ray.corpus.corpus import Corpus
from hat_ray.model.checkpoints.native import load_sub, load_super
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.folder import Folder


def trained_model() -> tuple[SubTransformer, Corpus]:
    """Return a model in evaluation mode and its corpus; skips where none is named.

    `HAT_RAY_RUN` names a run folder with a prepared corpus. Its model is the one that `HAT_RAY_SUB` names, a folder
    that `hat-ray train sub` wrote for the same sub-words, or else the largest of its SuperTransformer, with the weights
    that it inherits.
    """
    if "HAT_RAY_RUN" not in os.environ:
        pytest.skip("HAT_RAY_RUN names a run with a trained SuperTransformer, HAT_RAY_SUB a model of its own")
    run = Folder.at(os.environ["HAT_RAY_RUN"])
    corpus = Corpus.load(run.child("corpus"))
    if "HAT_RAY_SUB" in os.environ:
        model = load_sub(Folder.at(os.environ["HAT_RAY_SUB"]), "model")
    else:
        held = load_super(run.child("supernet"), "supernet")
        model = held.extract(held.space.largest())
    if model.target_vocab_size != corpus.vocabularies.sizes[0]:
        pytest.skip("the model of HAT_RAY_SUB was trained with other sub-words than the corpus of HAT_RAY_RUN")
    return model.eval(), corpus
