"""Every reference case of HAT's own code: the same numbers, the same beams, the same gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from hat_oracle import BATCHES, Oracle

from hat_ray.model.beam import beam_search
from tests.model.rounding import UNITS, assert_same_but_for_rounding

CONFIGS = (
    *("largest_last", "smallest_1dec", "largest_arb1", "largest_arb2", "encL_decS_mix", "encS_decL_mix", "onedec_arb2"),
    *(
        "enc2layers_identity",
        "enc1layer_identity",
        "padded_gene_lists",
        "sampled_seed0",
        "sampled_seed1",
        "sampled_seed2",
    ),
)
SCORE = UNITS * torch.finfo(torch.float32).eps * 8
"""Bound of a mean of logarithms of probability: differences of logits, which are up to 8."""
BEAMS = {
    "beam5_lenpen1": {"beam": 5, "length_penalty": 1.0, "max_length": 200},
    "beam4_lenpen0.6": {"beam": 4, "length_penalty": 0.6, "max_length": 200},
    "beam5_maxlenb6": {"beam": 5, "length_penalty": 1.0, "max_length": 6},
}


def test_the_oracle_has_no_case_that_is_not_tested(oracle: Oracle):
    assert set(oracle.facts["configs"]) == set(CONFIGS)
    assert {key for case in oracle.facts["results"].values() for key in case if key.startswith("beam")} <= set(BEAMS)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("config", CONFIGS)
def test_encoder_outputs_logits_and_loss_equal_hats(oracle: Oracle, config: str, batch: str):
    architecture = oracle.architecture(config)
    source, target_in = oracle.tensor(f"batch/{batch}/src_tokens"), oracle.tensor(f"batch/{batch}/prev_output_tokens")
    with torch.inference_mode():
        memory = oracle.model.encode(source, architecture)
        logits = oracle.model(source, target_in, architecture)
    outputs = [name for name in oracle.arrays if name.startswith(f"{config}/{batch}/encoder_out_all")]
    assert outputs
    real = source.ne(1).T  # what HAT leaves at padded places is arbitrary, and no real token sees it
    for index in range(len(outputs)):
        ours = memory.outputs[min(index, len(memory.outputs) - 1)].transpose(0, 1)
        theirs = oracle.tensor(f"{config}/{batch}/encoder_out_all{index}")
        assert_same_but_for_rounding(ours[real], theirs[real])
    theirs = oracle.tensor(f"{config}/{batch}/encoder_out")
    assert_same_but_for_rounding(memory.outputs[-1].transpose(0, 1)[real], theirs[real])
    assert_same_but_for_rounding(logits, oracle.tensor(f"{config}/{batch}/logits"))

    facts = oracle.facts["results"][config][batch]
    target = oracle.tensor(f"batch/{batch}/target")
    log_probs, keep = logits.double().log_softmax(-1), target.ne(1)
    nll = -log_probs.gather(-1, target[..., None])[..., 0][keep].sum()
    smooth = -log_probs.sum(-1)[keep].sum()
    loss = 0.9 * nll + 0.1 / logits.shape[-1] * smooth
    assert facts["sample_size"] == int(keep.sum())
    assert float(loss) / facts["sample_size"] / math.log(2) == pytest.approx(facts["valid_loss_base2"], abs=SCORE)
    assert float(nll) / facts["sample_size"] / math.log(2) == pytest.approx(facts["valid_nll_base2"], abs=SCORE)


@pytest.mark.parametrize("config", CONFIGS)
def test_beam_search_finds_hats_hypotheses(oracle: Oracle, config: str):
    facts = oracle.facts["results"][config]
    sub = oracle.model.extract(oracle.architecture(config))
    compared = 0
    for name, settings in BEAMS.items():
        if name not in facts:
            continue
        theirs = facts[name]["hypos"]
        source = oracle.tensor("batch/pad/src_tokens")
        ours = beam_search(sub, source, **settings)
        for sentence, expected in zip(ours, theirs, strict=True):
            assert [list(h.tokens) for h in sentence] == [h["tokens"] for h in expected]
            for hypothesis, reference in zip(sentence, expected, strict=True):
                assert hypothesis.score == pytest.approx(reference["score"], abs=SCORE)
                compared += 1
    assert compared


def test_gradients_equal_hats_and_skipped_layers_get_none(oracle: Oracle):
    cases = sorted({name.split("/")[1] for name in oracle.arrays if name.startswith("grad/")})
    assert len(cases) == 3
    source, target_in = oracle.tensor("batch/pad/src_tokens"), oracle.tensor("batch/pad/prev_output_tokens")
    target = oracle.tensor("batch/pad/target")
    for case in cases:
        oracle.model.zero_grad(set_to_none=True)
        logits = oracle.model(source, target_in, oracle.architecture(case))
        log_probs, keep = logits.log_softmax(-1), target.ne(1)
        nll = -log_probs.gather(-1, target[..., None])[..., 0][keep].sum()
        loss = 0.9 * nll + 0.1 / logits.shape[-1] * -log_probs.sum(-1)[keep].sum()
        loss.backward()
        without = set(oracle.facts["results"][case].get("grad_none", []))
        for name, parameter in oracle.model.named_parameters():
            if parameter.grad is None:
                assert name in without
            else:
                theirs = oracle.tensor(f"grad/{case}/{name}")
                torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=2e-5, msg=f"{case} {name}")
        oracle.model.zero_grad(set_to_none=True)


def test_sampling_follows_hats_order_of_draws(oracle: Oracle):
    import random

    space = oracle.model.space
    for entry in oracle.facts["trajectory"]:
        ours = space.sample(random.Random(entry["update"]))
        assert ours == oracle.architecture_of(entry["config"])


def test_loss_of_pytorch_is_not_what_hat_calls_label_smoothing(oracle: Oracle):
    """PyTorch spreads eps over all V entries and keeps 1 - eps + eps / V on the target, exactly as fairseq does."""
    logits, target = oracle.tensor("largest_last/nopad/logits"), oracle.tensor("batch/nopad/target")
    ours = F.cross_entropy(logits.flatten(0, 1), target.flatten(), label_smoothing=0.1, reduction="sum", ignore_index=1)
    assert float(ours) == pytest.approx(oracle.facts["results"]["largest_last"]["nopad"]["loss_sum"], rel=1e-5)
