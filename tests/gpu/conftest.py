"""The device that the check runs on, and its table, printed at its end."""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.gpu.place import Place, Table

DEVICE = "HAT_RAY_GPU_CHECK_DEVICE"


@pytest.fixture(scope="session")
def place() -> Place:
    """The GPU; a CPU only where `HAT_RAY_GPU_CHECK_DEVICE` is cpu."""
    wanted = os.environ.get(DEVICE, "cuda")
    if wanted not in ("cuda", "cpu"):
        raise pytest.UsageError(f"{DEVICE} must be cuda or cpu, got {wanted!r}")
    if wanted == "cpu":
        return Place("cpu", "the CPU")
    if not torch.cuda.is_available():
        pytest.skip(f"PyTorch sees no GPU here; {DEVICE}=cpu tries the check itself")
    return Place("cuda", torch.cuda.get_device_name(0))


@pytest.fixture(scope="session")
def table(place: Place) -> Iterator[Table]:
    found = Table(place)
    yield found
    print(f"\n\n{found}\n")
