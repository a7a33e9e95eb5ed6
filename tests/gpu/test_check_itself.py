"""The GPU check's own code, run at tiny size on a CPU; and what it says where no GPU is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def check(**environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-s", "-rs", "-p", "no:cacheprovider", str(HERE)]
    own = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=HERE.parents[1], env=own, capture_output=True, text=True, timeout=500, check=False
    )


def test_every_part_of_the_check_runs_on_a_cpu_and_the_table_says_that_it_means_nothing() -> None:
    done = check(HAT_RAY_GPU_CHECK_DEVICE="cpu")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "GPU check on the CPU" in done.stdout
    assert "at tiny size: these figures say nothing" in done.stdout
    for row in (
        "training bf16",
        "share of one large product's speed",
        "decoding, eager",
        "shape on cpu",
        "a whole recipe",
    ):
        assert row in done.stdout, done.stdout[-4000:]
    assert "skipped" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_skips_and_says_why() -> None:
    done = check()
    assert done.returncode == 0, done.stdout[-4000:]
    assert "PyTorch sees no GPU here; HAT_RAY_GPU_CHECK_DEVICE=cpu tries the check itself" in done.stdout
    assert "passed" not in done.stdout
