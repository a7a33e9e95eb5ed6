"""Whole recipes elsewhere: real text of a user, and a run folder that is reached by a URI."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hat_ray.report.render import read_report
from hat_ray.search.selection import HAND_SCALED
from hat_ray.storage.folder import Folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TINY = str(Path(__file__).parent / "tiny.yaml")
CLI = [sys.executable, "-m", "hat_ray.cli"]
SMALL_SIZES = (
    *("supernet.updates=6", "supernet.warmup_updates=2", "supernet.validate_every=6", "supernet.max_tokens=1024"),
    *("latency.samples=12", "latency.budget_s=0.3", "latency.patience_s=0.2", "latency.max_repetitions=10"),
    *(
        "search.evaluations=4",
        "search.finalists=2",
        "search.finalist_updates=[2]",
        "search.algorithm_options.population=4",
        "search.limits_fraction=[0.5]",
        "evaluate.sentences=20",
    ),
    *("retrain.updates=4", "retrain.warmup_updates=2", "retrain.validate_every=4", "retrain.max_tokens=1024"),
    *("retrain.inherited.updates=4", "retrain.inherited.warmup_updates=2"),
)


def run(*arguments: str, cwd: Path) -> dict[str, object]:
    result = subprocess.run([*CLI, "run", *arguments, "--json"], cwd=cwd, capture_output=True, timeout=800, check=False)
    assert result.returncode == 0, result.stderr.decode()
    value: dict[str, object] = json.loads(result.stdout)
    return value


def test_the_multi30k_recipe_runs_on_the_users_text(shared: Path, tmp_path: Path):
    settings = [part for change in SMALL_SIZES for part in ("--set", change)]
    data = str(shared / "corpora" / "multi30k-en-de")
    made = run("multi30k.en-de", "--data", data, "--local", *settings, cwd=tmp_path)
    assert made["run"] == "runs/multi30k.en-de"
    report = read_report(Folder.at(tmp_path / "runs" / "multi30k.en-de" / "report"))
    assert report.corpus.train_pairs > 28_000
    assert report.corpus.vocabulary_size == 4000
    kinds = [model.kind for model in report.chosen]
    assert kinds[0] == "winner"
    assert {"random", "largest"} < set(kinds)
    assert {one for one in kinds if one in HAND_SCALED} | {one.kind for one in report.missing} == set(HAND_SCALED)


def test_a_run_folder_may_be_a_uri(tmp_path: Path):
    place = f"file://{tmp_path}/bucket/tiny"
    run(TINY, "--local", "--run", place, cwd=tmp_path)
    assert (tmp_path / "bucket" / "tiny" / "report" / "report.html").is_file()
    again = run(place, "--local", cwd=tmp_path)  # a run folder is its own recipe
    assert again["run"] == place
    changed = run(place, "--local", "--set", "report.translations=1", cwd=tmp_path)
    assert changed["run"] == place
