"""The smallest published model of each kind of vocabulary; `bench_published.py` walks through all of them."""

from pathlib import Path

import pytest

from tests.pipeline.imports.published import walk
from tests.space.test_hat_compatibility import published


@pytest.mark.slow
@pytest.mark.parametrize("task", ["iwslt14", "wmt14.en-de"])
def test_a_published_model_is_imported_counted_timed_and_exported(shared: Path, tmp_path: Path, task: str):
    rows = [one for one in published(shared) if one[0]["task"].startswith(task)]
    walk(*min(rows, key=lambda one: int(one[0]["params_exact"])), tmp_path)
