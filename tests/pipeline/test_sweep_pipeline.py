"""A sweep in a real run folder: what it times, that nothing is timed twice, and what it leaves."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.core.codec import from_json
from hat_ray.core.determinism import stream_seed
from hat_ray.latency.effects import SweepResult
from hat_ray.latency.sweep import plan_sweep
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import choose_architectures
from hat_ray.recipe import load_recipe
from hat_ray.report.render import read_report
from hat_ray.storage.folder import Folder
from tests.latency import timings
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
TINY = str(Path(__file__).parent / "tiny.yaml")
SMALL = [
    *("corpus.toy.train_pairs=200", "corpus.vocab_size=300", "latency.samples=6", "latency.max_repetitions=5"),
    *("latency.budget_s=0.1", "latency.patience_s=0", "latency.calibration_s=0.1", "latency.canary_tolerance=50"),
    *("latency.target_length=3", "latency.warmup=1", "space.encoder_heads=[4]", "space.decoder_self_heads=[4]"),
    *("space.decoder_cross_heads=[4]", "space.encoder_embed_dims=[32]"),
]
SPACE = load_recipe(TINY, SMALL).space.build()


def timed(table: Path) -> Counter[str]:
    """How often each architecture was timed on the one device."""
    return Counter({id: times for (_, id), times in timings.timed(table).items()})


def once(*groups: list) -> Counter[str]:
    return Counter({architecture.id: 1 for group in groups for architecture in group})


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with nothing but a sweep."""
    place = tmp_path_factory.mktemp("runs") / "tiny"
    records = run_recipe(load_recipe(TINY, SMALL), str(place), local=True, only="sweep")
    assert [record.stage for record in records] == ["corpus", "sweep", "report"]
    return place


def result_of(place: Path) -> SweepResult:
    return from_json(SweepResult, json.loads((place / "sweep" / "stage.json").read_text())["output"], "the sweep")


def test_every_architecture_of_the_plan_is_timed_once_and_rated(swept: Path):
    plan = plan_sweep(SPACE)
    assert timed(swept / "sweep" / "table") == once(plan.architectures)
    result = result_of(swept)
    rows = {row.architecture: row for row in read_table(swept / "sweep" / "table")}
    assert [one.dimension for one in result.sweeps] == [one.dimension for one in plan.dimensions]
    for rated, planned in zip(result.sweeps, plan.dimensions, strict=True):
        assert [(p.choice, p.architecture) for p in rated.points] == [
            (p.choice, p.architecture) for p in planned.points
        ]
        for point in rated.points:
            row = rows[point.architecture]
            assert point.ms == row.corrected_ms
            assert point.encoder_ms / point.ms == pytest.approx(row.encoder.typical_ms / row.latency_ms)
        assert rated.effect.ratio == rated.points[-1].ms / rated.points[0].ms
    (device,) = result.devices
    assert device.base_ms == rows[plan.base].corrected_ms


def test_the_report_of_a_run_with_nothing_else_shows_the_sweep(swept: Path):
    data = read_report(Folder.at(swept / "report"))
    assert data.sweep == result_of(swept)
    assert data.devices == ()
    page = (swept / "report" / "report.html").read_text()
    assert "What each dimension costs" in page
    assert 'href="#sweep"' in page
    assert 'href="#method"' not in page


def test_a_finished_sweep_is_skipped_and_its_json_is_one_object(swept: Path):
    before = (swept / "sweep" / "stage.json").stat().st_mtime_ns
    arguments = [part for change in SMALL for part in ("--set", change)]
    done = CliRunner().invoke(app, ["latency", "sweep", TINY, "--local", "--run", str(swept), "--json", *arguments])
    assert done.exit_code == 0, done.output
    assert (swept / "sweep" / "stage.json").stat().st_mtime_ns == before
    told = json.loads(done.stdout)
    assert told["sweep"].pop("flops") == {}
    assert told["sweep"] == json.loads((swept / "sweep" / "stage.json").read_text())["output"]


def test_sweeps_share_the_latency_stages_table_and_time_only_what_it_lacks(swept: Path):
    place = str(swept)
    recipe = load_recipe(TINY, SMALL)
    run_recipe(recipe, place, local=True, only="latency")
    sampled = choose_architectures(SPACE, 6, stream_seed(recipe.seed, "latency"))
    groups = [sampled]
    run_recipe(load_recipe(TINY, [*SMALL, "sweep.base=smallest"]), place, local=True, only="sweep")
    groups.append(plan_sweep(SPACE, "smallest").architectures)
    assert timed(swept / "latency" / "table") == once(*groups)
    data = read_report(Folder.at(swept / "report"))
    assert data.sweep is not None
    assert data.sweep.base == SPACE.smallest()
    assert len(data.timed) == len(once(*groups))
    assert "Correlation of FLOPs and latency" in (swept / "report" / "report.html").read_text()


def test_a_sweep_of_another_corpus_is_not_shown(swept: Path, caplog: pytest.LogCaptureFixture):
    changed = load_recipe(TINY, [*SMALL, "corpus.toy.train_pairs=210"])
    for stage in ("corpus", "report"):
        run_recipe(changed, str(swept), local=True, only=stage)
    assert "do `hat-ray latency sweep` again" in caplog.text
    assert read_report(Folder.at(swept / "report")).sweep is None


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was_as_a_job_too(tmp_path: Path):
    """The job's script times until it is killed; the next one times the rest."""
    settings = [*SMALL, "latency.flush_s=0", "latency.budget_s=1", "latency.max_repetitions=300"]
    arguments = [part for change in settings for part in ("--set", change)]
    script = [sys.executable, str(ROOT / "jobs" / "stage.py"), "latency", "sweep"]
    command = [*script, "--recipe", TINY, "--run", str(tmp_path / "r"), "--local", *arguments]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    table = tmp_path / "r" / "sweep" / "table"
    try:
        wait_for(lambda: first.poll() is not None or len(list(table.rglob("*.parquet"))) >= 2, every_s=0.02)
        assert first.poll() is None
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=240)
    before = timed(table)
    assert 2 <= len(before) < len(plan_sweep(SPACE).architectures)
    second = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=240, check=False)
    assert second.returncode == 0, second.stderr
    assert timed(table) == once(plan_sweep(SPACE).architectures)
    assert set(before) <= set(timed(table))
    assert len(json.loads(second.stdout)["sweep"]["sweeps"]) == len(plan_sweep(SPACE).dimensions)
