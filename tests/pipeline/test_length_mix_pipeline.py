"""`hat-ray latency measure` with a mix of the corpus's lengths, from the command line to the table."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.corpus.corpus import Corpus
from hat_ray.latency.table.table import read_table
from hat_ray.storage.folder import Folder

TINY = str(Path(__file__).parent / "tiny.yaml")
MIX = (
    "--set",
    "latency.length_mix=4",
    "--set",
    "latency.samples=3",
    "--set",
    "latency.accelerator=cpu",
    "--set",
    "latency.canary_tolerance=50",
    "--set",
    "latency.flush_s=1000",
)  # rows are counted: each is written once


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("runs") / "mix")
    assert CliRunner().invoke(app, ["corpus", TINY, "--run", place, "--local"]).exit_code == 0
    return place


def test_the_timed_pairs_are_the_validation_sets_and_have_its_mean(run: str) -> None:
    done = CliRunner().invoke(app, ["latency", "measure", TINY, "--run", run, "--local", *MIX])
    assert done.exit_code == 0, done.output
    valid = Corpus.load(Folder.at(f"{run}/corpus")).valid
    lengths = np.stack([valid.source.lengths, valid.target.lengths], axis=1)
    (workload,) = {row.workload for row in read_table(f"{run}/latency/table")}
    assert len(workload.pairs) == 4
    assert set(workload.pairs) <= set(map(tuple, lengths.tolist()))
    assert np.mean(workload.pairs, axis=0) == pytest.approx(lengths.mean(axis=0), rel=0.03)
    again = CliRunner().invoke(app, ["latency", "measure", TINY, "--run", run, "--local", *MIX])
    assert again.exit_code == 0, again.output
    assert len(read_table(f"{run}/latency/table", every_measurement=True)) == 3


def test_a_corpus_longer_than_the_models_positions_is_refused_in_one_line(run: str) -> None:
    short = ["--set", "model.max_positions=16"]
    done = CliRunner().invoke(app, ["latency", "measure", TINY, "--run", run, "--local", *MIX, *short])
    assert done.exit_code != 0
    assert "lengths of latency.length_mix must be at most model.max_positions 16" in str(done.exception)
