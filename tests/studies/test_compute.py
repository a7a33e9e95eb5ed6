"""Equal compute: what a policy's updates cost, counted from its own draws, and settings that scale along."""

import pytest

from hat_ray.errors import HatRayError
from hat_ray.model.config import ModelConfig
from hat_ray.space.cost import cost, decoder_macs, encoder_macs
from hat_ray.space.presets import TOY
from hat_ray.studies.compute import PASSES, MeanSentence, mean_flops, plan_policies, scaled, sorted_share
from hat_ray.studies.policy_names import parse_policy
from hat_ray.train.config import RetrainConfig, TrainConfig
from hat_ray.train.sampling import policy_for

SENTENCE = MeanSentence(length=12, vocabulary_size=900)
CONFIG = TrainConfig(updates=4_000, warmup_updates=400, validate_every=500, checkpoint_every=250, max_tokens=512)
NAMES = ("front/uniform", "front/sandwich", "front/sandwich+distill", "middle/uniform", "importance/uniform")


@pytest.fixture(scope="module")
def plans():
    """The plans of all policies from the settings above; they are only read."""
    return planned(CONFIG)


def planned(config: TrainConfig, names: tuple[str, ...] = NAMES):
    return dict(
        zip(
            names, plan_policies([parse_policy(n) for n in names], TOY, ModelConfig(), config, SENTENCE, 1), strict=True
        )
    )


def test_a_pass_counts_encoder_decoder_and_output_projection():
    largest = TOY.largest()
    macs = encoder_macs(largest, 12) + decoder_macs(largest, 12) + 12 * largest.decoder.embed_dim * 900
    assert SENTENCE.pass_flops(largest) == 2 * macs
    assert SENTENCE.decoder_flops([largest])[0] == 2 * macs - 2 * encoder_macs(largest, 12)
    assert cost(largest, 12).flops == 2 * (encoder_macs(largest, 12) + decoder_macs(largest, 12))


def test_an_update_costs_what_its_architectures_cost_forward_and_twice_that_backward():
    largest, smallest = TOY.largest(), TOY.smallest()
    both = SENTENCE.pass_flops(largest) + SENTENCE.pass_flops(smallest)
    assert mean_flops(lambda update: (largest, smallest), SENTENCE) == PASSES * both


@pytest.mark.parametrize("name", NAMES)
def test_each_policy_costs_as_much_as_the_uniform_updates_asked_for(plans, name: str):
    """The cost is counted anew, update by update, from another seed's draws."""
    plan = plans[name]
    sort_update = plan.config.updates // 5 if name.startswith("importance") else None
    uniform = policy_for(TOY, CONFIG, seed=77)
    own = policy_for(TOY, plan.config, 77, sort_update)
    spent, budget = (
        PASSES * sum(SENTENCE.pass_flops(one) for update in range(updates) for one in policy(update))
        for policy, updates in ((own, plan.config.updates), (uniform, CONFIG.updates))
    )
    assert spent == pytest.approx(budget, rel=0.02)
    assert spent == pytest.approx(plan.flops_a_sentence * plan.config.updates, rel=0.02)


def test_updates_are_fewer_where_an_update_trains_more(plans):
    updates = {name: plan.config.updates for name, plan in plans.items()}
    assert updates["front/uniform"] == updates["middle/uniform"] == 4_000
    assert updates["front/sandwich"] == updates["front/sandwich+distill"] < 1_200
    assert 2_500 < updates["importance/uniform"] < 4_000


def test_policies_reach_the_settings_that_they_name():
    made = planned(TrainConfig(**{**CONFIG.model_dump(), "hat_sampling": True, "max_seconds": 9.0}))
    assert made["front/sandwich"].config.policy == "sandwich"
    assert made["front/sandwich"].config.distillation == 0
    assert made["front/sandwich+distill"].config.distillation == 0.5
    assert made["middle/uniform"].model.sharing == "middle"
    assert made["importance/uniform"].model.sharing == "importance"
    assert not any(plan.config.hat_sampling or plan.config.max_seconds for plan in made.values())


def test_channels_that_no_one_order_serves_are_told_before_anything_is_trained():
    narrow = TOY.replaced(decoder_embed_dims=(min(TOY.numbers("decoder_embed_dims")),))
    with pytest.raises(HatRayError, match="needs one largest width"):
        plan_policies([parse_policy("importance/uniform")], narrow, ModelConfig(), CONFIG, SENTENCE, 1)


def test_everything_that_counts_updates_is_scaled_along():
    half = scaled(CONFIG, 2_000)
    assert (half.updates, half.warmup_updates, half.validate_every, half.checkpoint_every) == (2_000, 200, 250, 125)
    assert half.sort_update is None
    assert half.lr == CONFIG.lr
    assert scaled(TrainConfig(updates=100, sort_update=30), 50).sort_update == 15
    tiny = scaled(CONFIG, 1)
    assert (tiny.updates, tiny.warmup_updates, tiny.validate_every) == (1, 0, 1)
    assert type(scaled(RetrainConfig(updates=10), 5)) is TrainConfig


def test_the_share_before_sorting_is_the_recipes_or_a_fifth():
    assert sorted_share(TrainConfig(updates=100, sort_update=30)) == 0.3
    assert sorted_share(TrainConfig(updates=100)) == 0.2
    assert sorted_share(TrainConfig(updates=10, sort_update=30)) == 1
