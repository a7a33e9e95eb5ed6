"""Searches for devices that only a latency table knows: another team's phone, and HAT's own tables."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.core.codec import from_json
from hat_ray.errors import CheckError, HatRayError
from hat_ray.evaluate.evaluate import EvaluateOutput
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.lookup.covering import covering_spaces
from hat_ray.latency.lookup.devices import count_rows, device_of_table
from hat_ray.latency.output import LatencyOutput
from hat_ray.latency.table.exchange import import_csv
from hat_ray.latency.table.hat_csv import published
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import keep, read_table, write_rows
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.record import MeasurementContext
from hat_ray.latency.timing.statistics import spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.predictor.fit import rows_of_device
from hat_ray.predictor.quantities import quantity_rows
from hat_ray.predictor.store import load_predictor
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.report.render import read_report
from hat_ray.search.winners import SearchOutput
from hat_ray.space.cost import count_macs
from hat_ray.space.presets import HAT_LATENCY, SPACE0, preset
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from tests.pipeline.conftest import TINY
from tests.predictor.hat_tables import hat_table

PHONE = DeviceInfo(
    "phone", "Tensor G3", "aarch64", 8, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Android"
)
WORDS = 300


def space_of_the_team() -> SearchSpace:
    """A space that contains the tiny recipe's, and is not built in."""
    return (
        load_recipe(TINY).space.build().replaced(name="team", encoder_ffn_dims=(64, 32, 16), decoder_depths=(3, 2, 1))
    )


def write_table(root: Path, space: SearchSpace, count: int = 60, device: DeviceInfo = PHONE) -> None:
    """Write another team's rows: milliseconds that follow the multiplications."""
    rng, rows = random.Random(1), []
    for index in range(count):
        architecture = space.sample(rng)
        ms = spread([(count_macs(architecture, 6) / 1e4 + 1) * (1 + 0.02 * rng.random())] * 3)
        rows.append(
            LatencyRow(
                **{"space_id": space.id, "architecture": architecture, "hat_features": (1.0,) * 10, "device": device},
                workload=Workload(1, 5, 6, 6, WORDS),
                **{"encoder": ms, "decoder": ms, "total": ms, "encoder_samples_ms": (), "decoder_samples_ms": ()},
                **{"repetitions": 3, "warmups": 3, "disturbed": 0, "relative_error": 0.01, "canary": None},
                context=MeasurementContext("h", "theirs", f"2026-01-31T12:{index // 60:02}:{index % 60:02}Z", ()),
            )
        )
    write_rows(root, rows)


def seen_of(root: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the time of the last change of everything in a table, its folders included."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [root, *root.rglob("*")]}


def recipe(root: Path, *changes: str, device: str = PHONE.slug, words: int = WORDS) -> Recipe:
    entry = f'latency.devices=[{{"table": "{device}", "vocab_size": {words}}}]'
    return load_recipe(TINY, [f"latency.table={root}", "latency.rows_of=covering", entry, *changes])


def test_a_run_for_a_phone_that_only_a_table_knows_times_nothing_and_says_so(tmp_path: Path) -> None:
    table, place = tmp_path / "table", tmp_path / "run"
    write_table(table, space_of_the_team())
    before = seen_of(table)
    records = {one.stage: one for one in run_recipe(recipe(table), str(place), local=True)}
    assert seen_of(table) == before, "another team's table is only read"
    assert not (place / "latency" / "table").exists()
    (device,) = from_json(LatencyOutput, records["latency"].output, "output").devices.values()
    assert (device.device, device.rows, device.attached) == (PHONE, 60, False)
    found = from_json(SearchOutput, records["search"].output, "output")
    assert found.winners
    for winner in found.winners:
        assert winner.measured_ms is None
        assert winner.predicted_ms <= winner.limit.by_quantity["latency_ms"]
        law = count_macs(winner.architecture, 6) / 1e4 + 1
        assert winner.predicted_ms == pytest.approx(1.01 * law, rel=0.1)
    evaluated = from_json(EvaluateOutput, records["evaluate"].output, "output")
    assert not any(model.measured for model in evaluated.models.values())
    data = read_report(Folder.at(place).child("report"))
    assert [one.attached for one in data.devices] == [False]
    assert all(one.measured_ms is None for model in data.chosen for one in model.latency.values())
    page = (place / "report" / "report.html").read_text()
    assert "only a latency table knows the device, and nothing was timed again" in page
    assert "measured on the device" not in page


@pytest.mark.parametrize(
    ("changes", "device", "words", "line"),
    [
        ([], "phone-tensor-g4-aarch64-1t-eager-fp32", WORDS, rf"which is none of them: take {PHONE.slug}"),
        (["latency.rows_of=own"], PHONE.slug, WORDS, r"set latency.rows_of=covering to use those of \w{8}"),
        (["space.decoder_ffn_dims=[48]"], PHONE.slug, WORDS, "none is known to contain it"),
        (["latency.target_length=7"], PHONE.slug, WORDS, "set latency.target_length to 6$"),
        ([], PHONE.slug, 7, "vocabulary 300; set vocab_size of this entry of latency.devices to 300$"),
        (["latency.quantities=[peak_mb]"], PHONE.slug, WORDS, r"^peak_mb is not known of phone\S+: "),
        (["predictor.min_rows=61"], PHONE.slug, WORDS, "at least predictor.min_rows 61 rows, .* has 60 of"),
    ],
)
def test_a_device_that_the_table_does_not_serve_is_refused_before_anything_is_done(
    tmp_path: Path, changes: list[str], device: str, words: int, line: str
) -> None:
    write_table(tmp_path / "table", space_of_the_team())
    wanted = recipe(tmp_path / "table", *changes, device=device, words=words)
    with pytest.raises(CheckError, match=line) as caught:
        run_recipe(wanted, str(tmp_path / "run"), local=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ('{"table": "a", "num_gpus": 1}', "described by its rows, got num_gpus"),
        ('{"vocab_size": 7}', "vocab_size is for devices of a table"),
        ('{"table": "../a"}', "table"),
        ('{"table": "a"}, {"table": "a"}', "got a twice"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused_in_one_line(entry: str, line: str) -> None:
    with pytest.raises(HatRayError, match=line):
        load_recipe(TINY, ["latency.table=somewhere", f"latency.devices=[{entry}]"])
    with pytest.raises(HatRayError, match=r"need latency\.table"):
        load_recipe(TINY, ['latency.devices=[{"table": "a"}]'])


def test_a_table_may_be_looked_up_beside_a_device_that_is_timed(tmp_path: Path) -> None:
    table = tmp_path / "table"
    write_table(table, space_of_the_team())
    entries = f'[{{"table": "{PHONE.slug}", "vocab_size": {WORDS}}}, {{"name": "here"}}]'
    hasty = ["latency.samples=3", "latency.patience_s=0", "latency.calibration_s=0.1", "latency.canary_tolerance=50"]
    mixed = recipe(table, f"latency.devices={entries}", *hasty)
    (record,) = run_recipe(mixed, str(tmp_path / "run"), local=True, only="latency")
    found = from_json(LatencyOutput, record.output, "output").devices
    assert {device.device.name: device.attached for device in found.values()} == {"phone": False, "here": True}
    timed = [row for row in read_table(table) if row.device.name == "here"]
    assert len(timed) == 3
    assert {row.workload.vocab_size for row in timed} == {400}


def test_a_space_that_its_rows_do_not_show_whole_is_not_used(tmp_path: Path) -> None:
    write_table(tmp_path, space_of_the_team(), count=1)
    own = load_recipe(TINY).space.build()
    assert covering_spaces(Folder.at(tmp_path), own) == ()
    write_table(tmp_path, space_of_the_team())
    assert covering_spaces(Folder.at(tmp_path), own) == (space_of_the_team().id,)
    assert covering_spaces(keep(tmp_path), space_of_the_team()) == ()
    assert covering_spaces(Folder.at(tmp_path), SPACE0) == ()


def test_an_architecture_that_was_timed_in_both_spaces_counts_once(tmp_path: Path) -> None:
    own = load_recipe(TINY).space.build()
    write_table(tmp_path, space_of_the_team())
    theirs = [row for row in read_table(tmp_path) if row.architecture is not None]
    again = [replace(row, space_id=own.id) for row in theirs if row.architecture and own.contains(row.architecture)]
    assert 0 < len(again) < len(theirs)
    write_rows(tmp_path, again)
    for rows_of, ids in (("covering", theirs), ("own", again)):
        wanted = recipe(tmp_path, f"latency.rows_of={rows_of}")
        job = TimingJob(own, wanted.model, WORDS, wanted.latency, Folder.at(tmp_path))
        assert sorted(rows_of_device(job, PHONE.slug).names) == sorted(r.architecture.id for r in ids if r.architecture)
        assert count_rows(job, PHONE.slug) == len(ids)


SUB = [
    *("space.preset=space0", "space.qkv_dim=512", "space.encoder_depths=[6]", "space.encoder_embed_dims=[512]"),
    *("space.decoder_embed_dims=[512]", "space.encoder_ffn_dims=[1024]", "space.decoder_ffn_dims=[2048,1024]"),
    *("space.decoder_depths=[3,2,1]", "latency.source_length=30", "latency.target_length=30"),
]


@pytest.fixture
def hats(shared: Path, tmp_path: Path) -> tuple[Path, str]:
    """A table with HAT's rows of its Raspberry Pi, and that device."""
    file = shared / "hat" / "latency_dataset" / "wmt14ende_cpu_raspberrypi_all.csv"
    known = published(file)
    assert known is not None
    import_csv(tmp_path / "table", file, space_id=preset("hat-latency").id, device=known[0], workload=known[1])
    return tmp_path / "table", known[0].slug


def test_hats_own_table_serves_a_part_of_its_space(shared: Path, hats: tuple[Path, str]) -> None:
    table, slug = hats
    wanted = recipe(table, *SUB, device=slug, words=32_768)
    space = wanted.space.build()
    assert HAT_LATENCY.covers(space)
    job = TimingJob(space, wanted.model, 400, wanted.latency, Folder.at(table))
    assert device_of_table(job, slug).slug == slug
    rows, theirs = rows_of_device(job, slug), hat_table(shared, "wmt14ende_cpu_raspberrypi")
    np.testing.assert_allclose(rows.total_ms, theirs.total_ms)
    np.testing.assert_allclose(rows.costs, theirs.costs)
    assert rows.layers is None
    with pytest.raises(HatRayError, match=r"^p90_ms is not known of \S+: imported averages have no percentiles[^\n]+$"):
        quantity_rows(job, slug, ["p90_ms"])


@pytest.mark.slow
def test_a_search_in_a_part_of_hats_space_with_hats_own_table(hats: tuple[Path, str], tmp_path: Path) -> None:
    table, slug = hats
    small = ["supernet.updates=3", "retrain.updates=2", "retrain.baselines=[largest]", "evaluate.sentences=4"]
    wanted = recipe(table, *SUB, *small, "search.limits_ms=[3500]", device=slug, words=32_768)
    records = {one.stage: one for one in run_recipe(wanted, str(tmp_path / "run"), local=True)}
    (winner,) = from_json(SearchOutput, records["search"].output, "output").winners
    assert winner.measured_ms is None
    direct = load_predictor(Folder.at(tmp_path / "run" / "predictor"), slug, slug, wanted.space.build().id)
    assert winner.predicted_ms == direct.predict([winner.architecture])[0] <= 3500
    assert direct.quality.mape < 3, "HAT's own table: 2.7 % with 1,600 rows"
    assert len(direct.held_out.names) == 2_000
    assert "nothing was timed again" in (tmp_path / "run" / "report" / "report.html").read_text()


def test_onboarding_a_device_of_a_table_fits_its_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "table", space_of_the_team())
    settings = [
        *(
            "--set",
            f"latency.table={tmp_path}/table",
            "--set",
            "latency.rows_of=covering",
            "--run",
            str(tmp_path / "r"),
        ),
        *("--set", f'latency.devices=[{{"table": "{PHONE.slug}", "vocab_size": {WORDS}}}]', "--local"),
    ]
    told = CliRunner().invoke(app, ["latency", "onboard", TINY, *settings])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "r" / "predictor" / f"{PHONE.slug}.json").exists()
    with pytest.raises(CheckError, match="name one that is attached"):
        run_recipe(recipe(tmp_path / "table"), str(tmp_path / "s"), local=True, only="sweep")
