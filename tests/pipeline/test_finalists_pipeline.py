"""The finalists of a real search: trained on from inherited weights, halved, resumed after a kill, and charged for."""

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.cluster.search import shares_of, train_rung
from hat_ray.core.codec import read
from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import HatRayError
from hat_ray.model.checkpoints.native import load_super, save_model
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.cost import gather_ledger, timed_rows
from hat_ray.pipeline.stages.search import finals_of, result_of
from hat_ray.recipe import Recipe, load_recipe, load_run_recipe
from hat_ray.search.candidates import CandidateTable
from hat_ray.search.engine.finalists import FILE, Finals
from hat_ray.search.winners import WINNERS, SearchOutput
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob, train_sub
from tests.pipeline.conftest import TINY
from tests.waiting import wait_for

SETTINGS = ("search.finalists=4", "search.finalist_updates=[6, 9]", "search.finalist_lr=0.002")
NOT_TIMED = "search.refine_rounds=0"


def begun(made: tuple[Recipe, Path], place: Path) -> Path:
    """Copy a whole run up to its search."""
    later = ("search", "retrain", "evaluate", "report")
    shutil.copytree(made[1], place, ignore=lambda folder, names: later if Path(folder) == made[1] else ())
    return place


def searched(place: Path, *changes: str) -> Finals:
    run_recipe(load_recipe(TINY, [*SETTINGS, *changes]), str(place), local=True, only="search")
    return read(Folder.at(place / "search"), FILE, Finals)


@pytest.fixture(scope="module")
def finished(made: tuple[Recipe, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with finalists whose winners were not timed: predictions decide which candidates keep a limit."""
    place = begun(made, tmp_path_factory.mktemp("finals") / "run")
    searched(place, NOT_TIMED)
    return place


def plainly_trained(place: Path, one: Architecture, rungs: int, scratch: Path, taught: float = 0.0) -> list[float]:
    """Train an architecture on, rung by rung, as the settings say, and return its loss after each."""
    recipe, corpus = load_run_recipe(Folder.at(place)), Corpus.load(Folder.at(place / "corpus"))
    space, super_ = recipe.space.build(), recipe.supernet
    start, teacher = Folder.at(scratch / "start"), Folder.at(scratch / "teacher")
    giver = load_super(Folder.at(place / "supernet"), "supernet")
    save_model(start, "model", giver.extract(one))
    save_model(teacher, "model", giver.extract(space.largest()))
    losses = []
    for rung, updates in enumerate(recipe.search.finalist_updates[:rungs]):
        config = TrainConfig(
            updates=updates,
            **{"lr": 0.002, "warmup_updates": updates // 10, "max_tokens": super_.max_tokens},
            **{"accumulate": super_.accumulate, "clip_norm": super_.clip_norm, "tensorboard": False},
            **({"teacher_share": taught} if taught else {}),
        )
        folder, seed = Folder.at(scratch / str(rung)), stream_seed(recipe.seed, "finals", str(rung))
        by = teacher if taught else None
        result = train_sub(one, space, corpus, recipe.model, config, folder, seed, start=start, teacher=by)
        losses.append(result.valid_loss_bits["model"])
        start = folder
    return losses


def test_finalists_go_on_from_inherited_weights_and_the_lowest_last_loss_wins(finished: Path, tmp_path: Path) -> None:
    finals = read(Folder.at(finished / "search"), FILE, Finals)
    output = read(Folder.at(finished / "search"), WINNERS, SearchOutput)
    assert finals.updates == (6, 9)
    assert finals.complete
    assert set(finals.limits) == set(output.limits)
    for limit in output.limits:
        of = finals.of(limit)
        assert len(of) == 4
        assert sum(len(one.rung_losses_bits) == 2 for one in of) >= 2
    for winner in output.winners:
        of = finals.of(winner.limit)
        twice = [one for one in of if len(one.rung_losses_bits) == 2]
        assert winner.architecture == min(twice, key=lambda one: one.rung_losses_bits[1]).architecture
        once = [one for one in of if len(one.rung_losses_bits) == 1]
        assert all(one.rung_losses_bits[0] >= min(other.rung_losses_bits[0] for other in twice) for one in once), (
            "the better half went on"
        )
    one = next(one for one in finals.finalists if len(one.rung_losses_bits) == 2)
    assert plainly_trained(finished, one.architecture, 2, tmp_path) == pytest.approx(one.rung_losses_bits, abs=1e-4)
    candidates = {c.architecture: c for c in CandidateTable(Folder.at(finished / "search")).read()}
    assert one.inherited_loss_bits == candidates[one.architecture].loss_bits
    assert not (finished / "search" / "finals").exists(), "weights that nothing reads are deleted"


def test_later_stages_read_these_winners_and_the_ledger_counts_the_training(finished: Path) -> None:
    context = Context(Run(Folder.at(finished), load_run_recipe(Folder.at(finished))), LocalExecution())
    output, finals = read(Folder.at(finished / "search"), WINNERS, SearchOutput), finals_of(context)
    result = result_of(context)
    assert finals is not None
    assert [(w.limit, w.candidate.architecture) for w in result.winners] == [
        (w.limit, w.architecture) for w in output.winners
    ]
    (line,) = (line for line in gather_ledger(context, result).lines if line.stage == "search")
    scoring = sum(one.seconds for one in result.candidates)
    record = context.run.record("search")
    assert record is not None
    timing = sum(row.seconds * row.cores for row in timed_rows(context, {"search": record}) if row.stage == "search")
    assert finals.seconds > 0
    assert line.core_s == pytest.approx(scoring + timing + finals.seconds)
    assert f"training of {len(finals.finalists)} finalists" in line.counted


def test_settings_at_their_defaults_leave_the_fingerprint_as_it_was(made: tuple[Recipe, Path]) -> None:
    plain = load_recipe(TINY).search.result_settings()
    assert not [name for name in plain if "finalist" in name]
    assert load_recipe(TINY, ["search.finalists=3"]).search.result_settings() == {**plain, "finalists": 3}


@pytest.mark.slow
def test_finalists_are_timed_and_those_that_miss_their_limit_give_way(
    made: tuple[Recipe, Path], tmp_path: Path
) -> None:
    place = begun(made, tmp_path / "run")
    finals = searched(place, "search.limits_ms=[5000, 12]")
    candidates = {c.architecture: c for c in CandidateTable(Folder.at(place / "search")).read()}
    output = read(Folder.at(place / "search"), WINNERS, SearchOutput)
    for one in finals.finalists:
        for limit in one.limits:
            timed = candidates[one.architecture].measured_ms
            assert timed[limit.device] <= limit.ms
    assert finals.finalists, "the largest architecture keeps a limit of thousands of milliseconds"
    for winner in output.winners:
        if finals.of(winner.limit):
            assert winner.architecture == finals.best(winner.limit)
            assert winner.measured_ms is not None
            assert winner.measured_ms <= winner.limit.ms


def test_the_teacher_is_the_largest_architecture(made: tuple[Recipe, Path], finished: Path, tmp_path: Path) -> None:
    place = begun(made, tmp_path / "run")
    taught = searched(place, NOT_TIMED, "search.finalist_distillation=0.4")
    plain = read(Folder.at(finished / "search"), FILE, Finals)
    before = {one.architecture: one for one in plain.finalists}
    assert {one.architecture for one in taught.finalists} == set(before)
    for one in taught.finalists:
        assert one.rung_losses_bits[0] != before[one.architecture].rung_losses_bits[0]
    one = taught.finalists[0]
    assert plainly_trained(place, one.architecture, 1, tmp_path, 0.4) == pytest.approx(
        one.rung_losses_bits[:1], abs=1e-4
    )


def _search_command(place: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "hat_ray.cli", "search", str(place), "--local", "--skip-checks"),
        *(part for setting in (*SETTINGS, NOT_TIMED) for part in ("--set", setting)),
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_trains_no_finalist_twice(made: tuple[Recipe, Path], finished: Path, tmp_path: Path) -> None:
    place = begun(made, tmp_path / "run")
    finals = place / "search" / "finals"
    with subprocess.Popen(_search_command(place), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as search:
        there = wait_for(
            lambda: search.poll() is not None or sorted(finals.glob("*/0/train.json")),
            "no finalist was trained",
            every_s=0.02,
        )
        assert search.poll() is None, "the search ended before it could be killed"
        search.send_signal(signal.SIGKILL)
    assert not (place / "search" / "stage.json").exists()
    kept = {file: (file.stat().st_mtime_ns, json.loads(file.read_text())) for file in there}
    again = subprocess.run(_search_command(place), capture_output=True, text=True, timeout=400, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    found, plain = (read(Folder.at(one / "search"), FILE, Finals) for one in (place, finished))
    assert [(one.architecture, one.rung_losses_bits) for one in found.finalists] == [
        (one.architecture, one.rung_losses_bits) for one in plain.finalists
    ]
    seconds = [value["result"]["seconds"] for _, value in kept.values()]
    assert found.seconds > sum(seconds), "the training before the kill is counted"


def jobs_of(place: Path, folder: Path, updates: int = 4) -> list[TrainJob]:
    """Return the trainings of three architectures from the weights that they inherit."""
    recipe, giver = load_run_recipe(Folder.at(place)), load_super(Folder.at(place / "supernet"), "supernet")
    config = TrainConfig(updates=updates, max_tokens=1024, lr=0.002, warmup_updates=0, tensorboard=False)
    jobs = []
    for one in (giver.space.largest(), giver.space.smallest(), giver.space.sample(random.Random(3))):
        start = Folder.at(folder / one.id / "start")
        save_model(start, "model", giver.extract(one))
        job = TrainJob(
            *(one, giver.space, Folder.at(place / "corpus"), recipe.model, config, Folder.at(folder / one.id)),
            **{"seed": 3, "start": start},
        )
        jobs.append(job)
    return jobs


def test_shares_of_a_rung_hold_every_job_and_about_the_same_work(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    jobs = jobs_of(made[1], tmp_path)
    sizes = {job.folder.uri: count_params(job.architecture) for job in jobs if job.architecture}
    largest = max(jobs, key=lambda job: sizes[job.folder.uri])
    two = shares_of(jobs, 2)
    assert two == [[largest], sorted((job for job in jobs if job != largest), key=lambda job: -sizes[job.folder.uri])]
    assert [len(share) for share in shares_of(jobs, 9)] == [1, 1, 1]
    assert [len(share) for share in shares_of(jobs, 1)] == [3]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_tune_trains_a_rung_as_one_process_does(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    shown: list[tuple[int, int]] = []
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        there = train_rung(jobs_of(made[1], tmp_path / "there"), lambda done, total, _: shown.append((done, total)))
        with pytest.raises(HatRayError, match="holds the result of another training"):
            train_rung(jobs_of(made[1], tmp_path / "there", updates=5))
    finally:
        ray.shutdown()
    here = LocalExecution().fine_tune(jobs_of(made[1], tmp_path / "here"))
    assert [one.valid_loss_bits["model"] for one in there] == pytest.approx(
        [one.valid_loss_bits["model"] for one in here], abs=1e-4
    )
    assert shown[-1] == (12, 12)
    assert not list(tmp_path.rglob("tune"))


def test_the_terminal_shows_losses_and_places(finished: Path) -> None:
    finals = read(Folder.at(finished / "search"), FILE, Finals)
    shown = CliRunner().invoke(app, ["search", "show", str(finished)])
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    for limit in finals.limits:
        first = lines.index(f"finalists under {limit}: inherited loss, loss after 6 and 9 more updates, place") + 1
        for place, line in zip(finals.places(limit), lines[first:], strict=False):
            one = place.finalist
            name, inherited, *losses = line.rpartition("  ")[0].split()
            assert name == one.architecture.id
            assert float(inherited) == pytest.approx(one.inherited_loss_bits, abs=1e-4)
            assert [float(loss) for loss in losses] == pytest.approx(one.rung_losses_bits, abs=1e-4)
            assert line.endswith(f"  {place.before} -> {place.after}")
    as_json = json.loads(CliRunner().invoke(app, ["search", "show", str(finished), "--json"]).stdout)
    assert len(as_json["finalists"]["finalists"]) == len(finals.finalists)
