"""What a process owns does not grow with the corpus: the benchmark's own measurement at two sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "bench_corpus.py"
SIZES = ("220000", "440000")
"""More than one shard, and twice as much; at 440,000 pairs the text has 100 MB and the tokens have 60."""
GROWTH_MB = {"prepare_private_mb": 40, "train_private_mb": 25}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_private_memory_is_the_same_for_twice_the_corpus() -> None:
    command = [sys.executable, str(BENCHMARK), "--json", "--updates", "3", "--pairs", *SIZES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    small, large = (json.loads(line) for line in done.stdout.splitlines())
    assert large["tokens"] > 1.9 * small["tokens"]
    for figure, growth in GROWTH_MB.items():
        assert large[figure]["driver"] < small[figure]["driver"] + growth
    assert large["train_mapped_mb"]["driver"] > small["train_mapped_mb"]["driver"]
