"""How far two right computations of the same numbers in fp32 may be apart."""

import torch
from torch import Tensor

UNITS = 32
"""Units in the last place of the largest number. Processors add the products of a sum in orders and widths of their own
(AVX-512, AVX2, SSE, NEON), and each layer hands its rounding on. HAT's reference cases are apart by 11 units with
AVX-512, 12 with AVX2 and 17 with SSE at most; an absolute 1e-5 was 11 units of logits up to 7.5, and failed with AVX2.
What is really wrong, such as a position or a head, is apart by thousands."""


def assert_same_but_for_rounding(ours: Tensor, theirs: Tensor, what: str = "") -> None:
    """Compare fp32 tensors, relative to the largest number of `theirs`: small numbers are differences of large ones."""
    bound = UNITS * torch.finfo(torch.float32).eps * float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound, msg=lambda told: f"{what} {told}")
