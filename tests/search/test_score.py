"""Scoring: the whole validation set, each token counting the same, with inherited weights."""

import math
import pickle
import random

import pytest
import torch
import torch.nn.functional as F

from hat_ray.corpus.batches import Batch
from hat_ray.corpus.vocabulary import EOS, PAD
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.search.score import CandidateScorer
from hat_ray.space.presets import TOY

VOCABULARY = 40


def a_batch(rows: int, length: int, seed: int) -> Batch:
    """Rows of unlike length: left-padded source, right-padded target."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(4, VOCABULARY, (rows, length), generator=generator)
    target = torch.randint(4, VOCABULARY, (rows, length), generator=generator)
    for row in range(rows):
        cut = row % (length - 1)
        source[row, :cut] = PAD
        target[row, length - cut :] = PAD
        target[row, length - cut - 1] = EOS
    source[:, -1] = EOS
    target_in = torch.full_like(target, EOS)
    target_in[:, 1:] = target[:, :-1]
    return Batch(source, target_in.masked_fill(target == PAD, PAD), target, int((target != PAD).sum()))


@pytest.fixture(scope="module")
def model() -> SuperTransformer:
    torch.set_num_threads(1)
    return SuperTransformer(TOY, VOCABULARY, ModelConfig(), seed=1)


def test_the_loss_is_hats_and_is_weighted_by_tokens_over_batches(model: SuperTransformer) -> None:
    batches = [a_batch(6, 9, 0), a_batch(2, 4, 1)]
    scorer = CandidateScorer(model, batches, label_smoothing=0.1)
    architecture = TOY.sample(random.Random(0))
    total, tokens = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            log_p = model(batch.source, batch.target_in, architecture).log_softmax(-1)[batch.target_out != PAD]
            target = batch.target_out[batch.target_out != PAD]
            total += float((0.9 * F.nll_loss(log_p, target, reduction="none") - 0.1 * log_p.mean(-1)).sum())
            tokens += len(target)
    assert tokens == sum(batch.num_tokens for batch in batches)
    assert scorer(architecture) == pytest.approx(total / tokens / math.log(2), rel=1e-5)
    assert scorer.sums(architecture).tokens == tokens


def test_the_loss_with_inherited_weights_is_the_extracted_models(model: SuperTransformer) -> None:
    batch = a_batch(5, 8, 2)
    scorer = CandidateScorer(model, [batch], label_smoothing=0.0)
    for seed in range(5):
        architecture = TOY.sample(random.Random(seed))
        with torch.inference_mode():
            logits = model.extract(architecture).eval()(batch.source, batch.target_in)
        nats = F.cross_entropy(logits.flatten(0, 1), batch.target_out.flatten(), ignore_index=PAD)
        assert scorer(architecture) == pytest.approx(float(nats) / math.log(2), rel=1e-5)


def test_a_scorer_travels_whole_and_repeats_bit_for_bit(model: SuperTransformer) -> None:
    scorer = CandidateScorer(model, [a_batch(4, 7, 3)], label_smoothing=0.1)
    elsewhere = pickle.loads(pickle.dumps(scorer))  # noqa: S301 - our own object, as Ray would send it
    architecture = TOY.largest()
    assert scorer(architecture) == scorer(architecture) == elsewhere(architecture)


def test_a_scorer_needs_batches(model: SuperTransformer) -> None:
    with pytest.raises(ValueError, match="at least one validation batch"):
        CandidateScorer(model, [], label_smoothing=0.1)
