"""What each policy trains, and that training with it is what it says."""

import math
import random
from collections import Counter

import pytest
import torch
from pydantic import ValidationError

from hat_ray.corpus.batches import collate, make_batches
from hat_ray.model.checkpoints.native import load_super
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.presets import SPACE0
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import UpdateBatches, ValidationLoss
from hat_ray.train.job import super_task, train_super
from hat_ray.train.loop import Training
from hat_ray.train.objective import smoothed_loss
from hat_ray.train.sampling import HatUniform, LargestFirst, Sandwich, StratifiedSampling, Uniform, policy_for
from hat_ray.train.workers import OneWorker

CONFIG = TrainConfig(updates=6, max_tokens=400, lr=3e-3, warmup_updates=2, validate_every=3, checkpoint_every=2)


def test_hats_policy_is_hats_stream_and_the_own_one_follows_the_seed():
    assert HatUniform(SPACE0)(41) == (SPACE0.sample(random.Random(41)),)
    assert Uniform(SPACE0, 1)(41) == Uniform(SPACE0, 1)(41) != Uniform(SPACE0, 2)(41)


def test_uniform_draws_each_choice_equally_often():
    depths = [Uniform(SPACE0, 5)(update)[0].decoder.depth for update in range(3000)]
    for depth in SPACE0.numbers("decoder_depths"):
        assert depths.count(depth) == pytest.approx(500, abs=5 * math.sqrt(500))


def test_stratified_gives_each_decoder_depth_its_turn_in_an_order_drawn_anew():
    rounds = [
        [StratifiedSampling(SPACE0, 5)(6 * turn + place)[0].decoder.depth for place in range(6)] for turn in range(40)
    ]
    assert all(sorted(depths) == [1, 2, 3, 4, 5, 6] for depths in rounds)
    assert len({tuple(depths) for depths in rounds}) > 30
    widths = Counter(StratifiedSampling(SPACE0, 5)(update)[0].encoder.embed_dim for update in range(600))
    assert widths[512] == pytest.approx(300, abs=70)


def test_a_sandwich_is_the_largest_random_ones_and_the_smallest():
    first, *between, last = Sandwich(SPACE0, 1, randoms=3)(7)
    assert (first, last) == (SPACE0.largest(), SPACE0.smallest())
    assert len(set(between)) == 3
    assert Sandwich(SPACE0, 1, randoms=0)(7) == (SPACE0.largest(), SPACE0.smallest())


def test_before_the_channels_are_sorted_only_the_largest_is_trained():
    policy = policy_for(SPACE0, TrainConfig(), 1, sort_update=3)
    assert policy == LargestFirst(SPACE0, 3, Uniform(SPACE0, 1))
    assert [policy(update) == (SPACE0.largest(),) for update in (0, 2, 3)] == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distillation": 0.5}, "distillation needs policy sandwich"),
        ({"policy": "sandwich", "hat_sampling": True}, "hat_sampling is HAT's uniform policy, got policy sandwich"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_update_of_a_sandwich_sums_the_gradients_of_its_architectures(share, tiny_space, corpus, tmp_path):
    """The first moment of Adam after one update is a tenth of the gradient."""
    model = SuperTransformer(tiny_space, corpus.vocabularies.sizes[0], ModelConfig(dropout=0.0), seed=4)
    policy, batch = Sandwich(tiny_space, 1, randoms=2), collate(corpus.train, make_batches(corpus.train, 400, 1, 0)[0])
    teacher = None
    for architecture in policy(0):
        output = model.output(batch.source, batch.target_in, architecture)
        smoothed_loss(output, batch.target_out, 0.1, 1, teacher, share).loss_sum.backward()
        teacher = teacher or output
    expected = {name: p.grad / batch.num_tokens for name, p in model.named_parameters()}
    model.zero_grad()
    config = CONFIG.model_copy(update={"updates": 1, "policy": "sandwich", "distillation": share})
    store = CheckpointStore(Folder.at(tmp_path), "test", keep_last=1)
    feed, validation = UpdateBatches(corpus.train, 400, 1, 1, OneWorker()), ValidationLoss(corpus.valid, 500)
    Training(super_task(model, policy), feed, validation, config, store, OneWorker(), seed=1).run(lambda *_: None)
    for name, gradient in expected.items():
        moment = store.latest().tensors[f"exp_avg/{name}"]
        torch.testing.assert_close(10 * moment, gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("sharing", "settings"),
    [
        ("front", {"policy": "sandwich", "distillation": 0.5}),
        ("front", {"policy": "stratified"}),
        ("middle", {}),
        ("importance", {"sort_update": 4}),
        ("front", {"precision": "bf16"}),
        ("front", {"precision": "fp16"}),
    ],
)
def test_every_policy_learns_and_goes_on_exactly_where_it_was_cut_off(sharing, settings, tiny_space, corpus, tmp_path):
    model, config = ModelConfig(sharing=sharing), TrainConfig(**{**CONFIG.model_dump(), **settings})
    whole, cut = Folder.at(tmp_path / "whole"), Folder.at(tmp_path / "cut")
    train_super(tiny_space, corpus, model, config, whole, 1)
    train_super(tiny_space, corpus, model, config, cut, 1)
    cut.delete("train.json")
    for newer in cut.child("checkpoints").list()[1:]:
        cut.child("checkpoints").delete(newer)
    resumed = train_super(tiny_space, corpus, model, config, cut, 1)
    first, last = resumed.history
    assert last.valid_loss_bits["largest"] < first.valid_loss_bits["largest"]
    trained = load_super(whole, "supernet").weights()
    for name, weight in load_super(cut, "supernet").weights().items():
        assert torch.equal(weight, trained[name]), name


def test_fp16_leaves_out_an_update_that_overflows_and_scales_the_next_one_less(tiny_space, corpus, tmp_path):
    model = SuperTransformer(tiny_space, corpus.vocabularies.sizes[0], ModelConfig(dropout=0.0), seed=4)
    before = {name: weight.clone() for name, weight in model.weights().items()}
    config = CONFIG.model_copy(update={"updates": 1, "precision": "fp16"})
    store = CheckpointStore(Folder.at(tmp_path), "test", keep_last=1)
    feed, validation = UpdateBatches(corpus.train, 400, 1, 1, OneWorker()), ValidationLoss(corpus.valid, 500)
    task = super_task(model, Uniform(tiny_space, 1))
    training = Training(task, feed, validation, config, store, OneWorker(), seed=1)
    training._precision.restore((2.0**40, 17))
    training.run(lambda *_: None)
    assert store.latest().values["loss_scale"] == [2.0**39, 0]
    for name, weight in model.weights().items():
        assert torch.equal(weight, before[name]), name
