"""Scoring: the whole validation set, each token counting the same, with inherited weights."""

import math
import pickle
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from hat_ray.corpus.batches import Batch
from hat_ray.corpus.vocabulary import EOS, PAD
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.search.early_stopping import NO_BARS, SHARES, PartScore
from hat_ray.search.scorer import CandidateScorer, divided
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


def test_kept_encoder_passes_change_no_bit_of_any_loss(model: SuperTransformer) -> None:
    batches, rng = [a_batch(16, 9, 4), a_batch(8, 6, 5)], random.Random(1)
    parents = [TOY.sample(rng) for _ in range(4)]
    decoders = [replace(parent, decoder=TOY.smallest().decoder) for parent in parents]
    one_encoder = sum(16 * 9 * 4 * parent.encoder.embed_dim * parent.encoder.depth for parent in parents[:1])
    some = [*parents, *decoders, *reversed(parents)]
    for in_parts in (False, True):
        plain = CandidateScorer(model, batches, 0.1, in_parts=in_parts)
        for kept_bytes in (one_encoder, 1 << 20):  # encoders come and go, or all stay
            keeping = CandidateScorer(model, batches, 0.1, kept_bytes, in_parts=in_parts)
            assert [keeping(one) for one in some] == [plain(one) for one in some]


def test_parts_hold_every_sentence_once_and_every_length_alike(model: SuperTransformer) -> None:
    batches = [a_batch(16, 9, 4), a_batch(11, 12, 5), a_batch(5, 20, 6)]
    parts = divided(batches)
    rows = [sum(len(batch.source) for batch in part) for part in parts]
    assert rows == [4, 4, 8, 16]
    assert sum(batch.num_tokens for part in parts for batch in part) == sum(batch.num_tokens for batch in batches)
    whole, divided_up = CandidateScorer(model, batches, 0.1), CandidateScorer(model, batches, 0.1, in_parts=True)
    architecture = TOY.sample(random.Random(3))
    assert divided_up(architecture) == pytest.approx(whole(architecture), rel=1e-6)
    assert divided_up.fingerprint == whole.fingerprint
    with pytest.raises(ValueError, match="at least 8 validation sentences, got 2"):
        CandidateScorer(model, [a_batch(2, 9, 4)], 0.1, in_parts=True)


def test_scoring_stops_after_the_first_part_above_its_bar(model: SuperTransformer) -> None:
    scorer = CandidateScorer(model, [a_batch(16, 9, 4), a_batch(16, 6, 5)], 0.1, 1 << 20, in_parts=True)
    architecture = TOY.sample(random.Random(4))
    whole = scorer.in_parts(architecture, NO_BARS)
    assert whole.share == 1
    assert whole.loss_bits == scorer(architecture)
    assert len(whole.at_shares) == 3
    for place in range(3):
        bars = [math.inf] * 3
        bars[place] = whole.at_shares[place] - 1e-9
        stopped = scorer.in_parts(architecture, tuple(bars))
        assert stopped == PartScore(whole.at_shares[place], SHARES[place], whole.at_shares[: place + 1])
    assert scorer.in_parts(architecture, NO_BARS) == whole  # what a stopped pass left in the cache is the beginning


def test_a_scorer_needs_batches(model: SuperTransformer) -> None:
    with pytest.raises(ValueError, match="at least one validation batch"):
        CandidateScorer(model, [], label_smoothing=0.1)
