import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.train.objective import label_smoothed_loss

PAD = 1


def random_case(rows: int = 6, length: int = 9, vocabulary: int = 50) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(rows, length, vocabulary, generator=generator)
    target = torch.randint(2, vocabulary, (rows, length), generator=generator)
    target[::2, 5:] = PAD
    return logits, target


def test_sums_equal_hats_own_on_every_reference_case(reference):
    for name, result in reference.facts["results"].items():
        for batch in ("pad", "nopad", "rightpad"):
            if batch not in result:
                continue
            target = reference.tensor(f"batch/{batch}/target")
            sums = label_smoothed_loss(reference.tensor(f"{name}/{batch}/logits"), target, 0.1, PAD)
            expected = result[batch]
            assert int(sums.tokens) == expected["sample_size"]
            assert float(sums.loss_sum) == pytest.approx(expected["loss_sum"], rel=1e-6)
            assert float(sums.nll_sum) == pytest.approx(expected["nll_sum"], rel=1e-5)
            assert sums.loss_bits == pytest.approx(expected["valid_loss_base2"], rel=1e-6)
            assert sums.nll_bits == pytest.approx(expected["valid_nll_base2"], rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_loss_and_gradient_equal_pytorchs_cross_entropy(smoothing):
    logits, target = random_case()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = label_smoothed_loss(ours, target, smoothing, PAD).loss_sum
    expected = F.cross_entropy(
        theirs.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum", label_smoothing=smoothing
    )
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_gradient_is_right_in_double_precision_against_finite_differences():
    logits, target = random_case(2, 6, 7)
    logits = logits.double().requires_grad_()
    loss = label_smoothed_loss(logits, target, 0.1, PAD).loss_sum
    (gradient,) = torch.autograd.grad(loss, logits)
    step = 1e-3
    for place in [(0, 0, 3), (0, 5, 2), (1, 4, 6)]:
        moved = [logits.detach().clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (label_smoothed_loss(x, target, 0.1, PAD).loss_sum for x in moved)
        assert float(up - down) / (2 * step) == pytest.approx(float(gradient[place]), abs=1e-3)


def test_blocks_change_nothing(monkeypatch):
    logits, target = random_case()
    whole = label_smoothed_loss(logits, target, 0.1, PAD)
    monkeypatch.setattr("hat_ray.train.objective._BLOCK_ELEMENTS", 150)
    cut = label_smoothed_loss(logits, target, 0.1, PAD)
    torch.testing.assert_close(cut.loss_sum, whole.loss_sum, rtol=0, atol=0)


def test_half_precision_logits_lose_only_their_own_rounding():
    logits, target = random_case()
    half = logits.bfloat16()
    exact = half.float().requires_grad_()
    rounded = half.clone().requires_grad_()
    for x in (exact, rounded):
        label_smoothed_loss(x, target, 0.1, PAD).loss_sum.backward()
    torch.testing.assert_close(rounded.grad.float(), exact.grad, rtol=2**-7, atol=1e-4)


def test_padding_alone_gives_zero_and_no_nan():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    sums = label_smoothed_loss(logits, torch.full((2, 3), PAD), 0.1, PAD)
    sums.loss_sum.backward()
    assert sums.loss_sum.item() == int(sums.tokens) == 0
    assert not logits.grad.any()
