"""How threads of PyTorch wait for one another: on a machine at rest, and beside other work.

`pytest -m benchmark -s tests/benchmarks/bench_busy.py`. A process of its own computes the loss of the largest
architecture of `small` on 2,000 tokens, again and again, with one thread and with two; beside it nothing runs, or four
processes that compute without end. `import hat_ray` sets GOMP_SPINCOUNT where it is not set.
"""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
ROUNDS, SECONDS = 3, 6.0
CHILD = """
import sys, time
import hat_ray
import torch
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.presets import PRESETS
torch.set_num_threads(int(sys.argv[1]))
space = PRESETS["small"]
model = SuperTransformer(space, 4000, ModelConfig()).eval()
source, target = torch.randint(5, 4000, (2, 80, 25))
with torch.inference_mode():
    model(source, target, space.largest())
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < float(sys.argv[2]):
        model(source, target, space.largest())
        count += 1
print((time.perf_counter() - begun) / count * 1000)
"""
BUSY = "while True: sum(range(10000))"


def milliseconds(threads: int, spins: str | None) -> float:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    }
    if spins:
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, "-c", CHILD, str(threads), str(SECONDS)]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=300).stdout)


@pytest.mark.parametrize("others", [0, 4])
def test_print_the_cost_of_waiting(others: int) -> None:
    ways = {"one thread": (1, None), "two, GNU's default": (2, "300000"), "two, as hat-ray sets it": (2, None)}
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)]
    try:
        time.sleep(1)
        times = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, (threads, spins) in ways.items():
                times[way].append(milliseconds(threads, spins))
    finally:
        for process in busy:
            process.kill()
            process.wait(30)
    print(f"\nbeside {others} other processes, milliseconds a pass: fastest, median, slowest of {ROUNDS}")
    for way, some in times.items():
        print(f"  {way:24} {min(some):8.1f} {np.median(some):8.1f} {max(some):8.1f}")
