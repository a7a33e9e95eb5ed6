import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.model.transformer import Output
from hat_ray.train.objective import LossSums, smoothed_loss

PAD = 1


def random_case(
    rows: int = 6, length: int = 9, vocabulary: int = 50, dim: int = 7, *, biased: bool = False
) -> tuple[Output, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = 2 * torch.randn(rows, length, dim, generator=generator)
    weight = torch.randn(vocabulary, dim, generator=generator)
    target = torch.randint(2, vocabulary, (rows, length), generator=generator)
    target[::2, 5:] = PAD
    bias = (2 * torch.randn(vocabulary, generator=generator)).requires_grad_() if biased else None
    return Output(hidden.requires_grad_(), weight.requires_grad_(), bias), target


def copy(output: Output, dtype: torch.dtype = torch.float32) -> Output:
    parts = (output.hidden, output.weight, output.bias)
    return Output(*(t if t is None else t.detach().clone().to(dtype).requires_grad_() for t in parts))


def of_logits(logits: Tensor, target: Tensor) -> LossSums:
    """The loss of logits as they are: through a projection that changes nothing."""
    return smoothed_loss(Output(logits, torch.eye(logits.shape[-1])), target, 0.1, PAD)


def test_sums_equal_hats_own_on_every_reference_case(reference):
    for name, result in reference.facts["results"].items():
        for batch in ("pad", "nopad", "rightpad"):
            if batch not in result:
                continue
            target = reference.tensor(f"batch/{batch}/target")
            sums = of_logits(reference.tensor(f"{name}/{batch}/logits"), target)
            expected = result[batch]
            assert int(sums.tokens) == expected["sample_size"]
            assert float(sums.loss_sum) == pytest.approx(expected["loss_sum"], rel=1e-6)
            assert float(sums.nll_sum) == pytest.approx(expected["nll_sum"], rel=1e-5)
            assert sums.loss_bits == pytest.approx(expected["valid_loss_base2"], rel=1e-6)
            assert sums.nll_bits == pytest.approx(expected["valid_nll_base2"], rel=1e-5)


def pytorch(output: Output, target: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(
        output.logits().flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum", label_smoothing=smoothing
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("rows_of_a_block", [5, 256])
def test_loss_and_gradients_equal_pytorchs_cross_entropy(smoothing, rows_of_a_block, monkeypatch):
    monkeypatch.setattr("hat_ray.train.objective._ROWS", rows_of_a_block)
    ours, target = random_case()
    theirs = copy(ours)
    loss = smoothed_loss(ours, target, smoothing, PAD).loss_sum
    expected = pytorch(theirs, target, smoothing)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(ours.hidden.grad, theirs.hidden.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_bias_is_part_of_the_loss_and_gets_its_gradient(share):
    ours, target = random_case(biased=True)
    theirs, teacher = copy(ours), copy(random_case(dim=5, biased=True)[0])
    sums = smoothed_loss(ours, target, 0.1, PAD, teacher, share)
    (3 * sums.loss_sum).backward()
    keep = target != PAD
    labels = F.one_hot(target[keep], 50) * 0.9 + 0.1 / 50
    mixed = (1 - share) * labels + share * teacher.logits()[keep].softmax(-1)
    expected = F.cross_entropy(theirs.logits()[keep], mixed.detach(), reduction="sum")
    (3 * expected).backward()
    torch.testing.assert_close(sums.loss_sum, expected, rtol=2e-6, atol=0)
    for name in ("hidden", "weight", "bias"):
        one, other = (getattr(each, name).grad for each in (ours, theirs))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert teacher.bias.grad is None


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_distillation_equals_pytorchs_cross_entropy_with_a_mixed_distribution(share):
    ours, target = random_case()
    theirs, teacher = copy(ours), copy(random_case(dim=5)[0])
    sums = smoothed_loss(ours, target, 0.1, PAD, teacher, share)
    sums.loss_sum.backward()
    keep = target != PAD
    labels = F.one_hot(target[keep], 50) * 0.9 + 0.1 / 50
    mixed = (1 - share) * labels + share * teacher.logits()[keep].softmax(-1)
    expected = F.cross_entropy(theirs.logits()[keep], mixed.detach(), reduction="sum")
    expected.backward()
    torch.testing.assert_close(sums.loss_sum, expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(ours.hidden.grad, theirs.hidden.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-5)
    assert teacher.hidden.grad is None
    assert teacher.weight.grad is None
    assert sums.nll_bits == smoothed_loss(ours, target, 0.1, PAD).nll_bits


def test_a_teacher_that_thinks_as_its_pupil_leaves_no_gradient():
    output, target = random_case()
    smoothed_loss(output, target, 0.1, PAD, output, share=1.0).loss_sum.backward()
    assert output.hidden.grad.abs().max() < 1e-5
    assert output.weight.grad.abs().max() < 1e-5


def test_a_sliced_weight_gets_its_gradient_through_the_slice():
    whole = torch.randn(50, 9, requires_grad=True)
    hidden, target = torch.randn(2, 4, 7), torch.randint(2, 50, (2, 4))
    smoothed_loss(Output(hidden, whole[:, 1:8]), target, 0.1, PAD).loss_sum.backward()
    expected = torch.zeros_like(whole)
    part = whole.detach()[:, 1:8].clone().requires_grad_()
    pytorch(Output(hidden, part), target, 0.1).backward()
    expected[:, 1:8] = part.grad
    torch.testing.assert_close(whole.grad, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_loses_only_the_rounding_of_its_products(dtype):
    exact, target = random_case()
    rounded = copy(exact)
    smoothed_loss(exact, target, 0.1, PAD).loss_sum.backward()
    with torch.autocast("cpu", dtype):
        loss = smoothed_loss(rounded, target, 0.1, PAD).loss_sum
    loss.backward()
    assert loss.dtype == rounded.hidden.grad.dtype == torch.float32
    scale = exact.hidden.grad.abs().max()
    assert (rounded.hidden.grad - exact.hidden.grad).abs().max() < 0.05 * scale
    assert not torch.equal(rounded.hidden.grad, exact.hidden.grad)


def test_nothing_is_kept_for_gradients_that_nobody_takes():
    output, target = random_case()
    with torch.inference_mode():
        quiet = smoothed_loss(output, target, 0.1, PAD)
    torch.testing.assert_close(quiet.loss_sum, smoothed_loss(output, target, 0.1, PAD).loss_sum.detach())


def test_padding_alone_gives_zero_and_no_nan():
    output, _ = random_case(2, 3)
    sums = smoothed_loss(output, torch.full((2, 3), PAD), 0.1, PAD)
    sums.loss_sum.backward()
    assert sums.loss_sum.item() == int(sums.tokens) == 0
    assert not output.hidden.grad.any()
    assert not output.weight.grad.any()
