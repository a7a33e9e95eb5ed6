import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hat_ray.errors import LatencyError, SpaceError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.here import measure
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.session import TimingSession
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.timed import timed_again
from tests.processes import process_of
from tests.waiting import wait_for

SPACE = PRESETS["toy"]
CONFIG = LatencyConfig(
    source_length=4,
    target_length=3,
    warmup=1,
    min_repetitions=5,
    max_repetitions=5,
    accelerator="cpu",
    flush_s=0,
    visits=1,
    canary_tolerance=50.0,
    calibration_s=0.1,
    budget_s=1.0,
    patience_s=1.0,
)


def job(root: Path, config: LatencyConfig = CONFIG, **settings: object) -> TimingJob:
    return replace(TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(root)), **settings)  # type: ignore[arg-type]


def test_rows_tell_what_was_timed_and_under_which_circumstances(tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 3, seed=0)
    steps: list[tuple[int, int]] = []
    summary = measure(
        job(tmp_path, session_id="s"), architectures, progress=lambda done, total, _: steps.append((done, total))
    )
    rows = read_table(tmp_path)
    assert {row.architecture for row in rows} == set(architectures)
    assert (summary.timed, summary.skipped, steps) == (3, 0, [(1, 3), (2, 3), (3, 3)])
    for row in rows:
        assert row.space_id == SPACE.id
        assert row.device == detect(accelerator="cpu")
        assert (row.workload.beam, row.workload.target_length, row.workload.vocab_size) == (5, 3, 64)
        assert len(row.encoder_samples_ms) == len(row.decoder_samples_ms) == row.repetitions >= 5
        assert row.canary is not None
        assert min(row.canary.before_ms, row.canary.after_ms, row.canary.drift_correction, row.latency_ms) > 0
        assert dict(row.context.library_versions)["torch"] == torch.__version__
        assert row.context.session_id == "s"


def test_what_the_table_has_is_not_timed_again_but_another_workload_is(tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 4, seed=0)
    measure(job(tmp_path), architectures[:2])
    summary = measure(job(tmp_path), architectures)
    assert (summary.timed, summary.skipped) == (2, 2)
    longer = CONFIG.model_copy(update={"target_length": 4})
    assert measure(job(tmp_path, longer), architectures).timed == 4
    assert len(read_table(tmp_path, every_measurement=True)) == 8


def test_a_session_whose_time_is_spent_begins_nothing_new_and_keeps_what_it_has(tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 4, seed=0)
    session = TimingSession(job(tmp_path), detect(accelerator="cpu"))
    assert [step.done for step in session.steps(architectures[:2])] == [1, 2]
    assert [step.done for step in session.steps(architectures, within_s=0.0)] == []
    assert {row.architecture for row in read_table(tmp_path)} == set(architectures[:2])
    assert (session.summary.timed, session.summary.skipped) == (2, 2)


def test_winners_are_measured_again_once_a_session(tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 2, seed=0)
    measure(job(tmp_path), architectures)
    winners = job(tmp_path, again=True, session_id="winners")
    assert measure(winners, architectures).timed == 2
    assert measure(winners, architectures).timed == 0
    assert len(read_table(tmp_path, session_id="winners", every_measurement=True)) == 2
    row = timed_again(winners, architectures[0])
    rows = read_table(tmp_path, every_measurement=True)
    assert replace(row, canary=None) in [replace(known, canary=None) for known in rows]  # reading settles the canary


def test_a_killed_measurement_goes_on_where_it_ended(tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 8, seed=0)
    this, three = job(tmp_path / "table"), tmp_path / "three"

    def wait_after_three(done: int, _total: int, _figures: Mapping[str, float]) -> None:
        if done == 3:
            three.touch()
            signal.pause()

    child = process_of(lambda: measure(this, architectures, progress=wait_after_three))
    child.start()
    try:
        wait_for(three.exists, every_s=0.01)
    finally:
        child.kill()
        child.join(240)
    before = read_table(this.table_root, every_measurement=True)
    summary = measure(this, architectures)
    assert (summary.skipped, summary.timed) == (3, 5)
    after = read_table(this.table_root, every_measurement=True)
    # on a busy machine a row of the new session is written again, when the device turns out to be quieter
    assert {row.architecture for row in after} == set(architectures)
    over = {row.architecture for row in before}
    assert len(over) == 3
    assert len([row for row in after if row.architecture in over]) == len(before)
    kept = [replace(row, canary=None) for row in after]  # reading settles the canary
    assert all(replace(row, canary=None) in kept for row in before)


def test_an_architecture_outside_the_space_is_refused_before_anything_is_timed(tmp_path: Path) -> None:
    inside, outside = SPACE.smallest(), PRESETS["space0"].smallest()
    with pytest.raises(SpaceError, match="outside space toy"):
        measure(job(tmp_path), [inside, outside])
    assert read_table(tmp_path) == []


def test_rows_timed_before_an_interrupt_are_written(tmp_path: Path) -> None:
    slow_flush = CONFIG.model_copy(update={"flush_s": 1000.0})

    def interrupt(done: int, total: int, figures: Mapping[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(job(tmp_path, slow_flush), choose_architectures(SPACE, 3, seed=0), progress=interrupt)
    assert len(read_table(tmp_path)) == 1


def test_a_device_of_other_threads_than_the_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match=r"latency\.threads 1, got 2"):
        measure(job(tmp_path), [SPACE.smallest()], detect(threads=2, accelerator="cpu"))


def test_chosen_architectures_are_distinct_repeatable_and_span_the_space() -> None:
    chosen = choose_architectures(SPACE, 50, seed=3)
    assert chosen == choose_architectures(SPACE, 50, seed=3)
    assert len(set(chosen)) == 50
    assert chosen[:2] == [SPACE.smallest(), SPACE.largest()]
    tiny = SPACE.replaced(**{name: (max(values),) for name, values in SPACE.choices.items()})
    assert choose_architectures(tiny, 50, seed=3) == [tiny.largest()]
