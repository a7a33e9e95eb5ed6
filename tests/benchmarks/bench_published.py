"""Every published model of HAT's, with random weights: import, cost, latency measure, export. Run with
pytest -m benchmark -s --timeout 3600 tests/benchmarks/bench_published.py
"""

import shutil
from pathlib import Path

import pytest

from tests.pipeline.imports.published import walk
from tests.space.test_hat_compatibility import published

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]


def test_every_published_model_goes_through(shared: Path, tmp_path: Path):
    rows = published(shared)
    for number, (row, architecture) in enumerate(rows, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        milliseconds, seconds = walk(row, architecture, folder)
        shutil.rmtree(folder)
        print(f"{number:2} {row['model_name']:44} {milliseconds:8.1f} ms  {seconds:5.1f} s", flush=True)
    assert len(rows) == 32
