"""Compaction: fewer files, the same rows, whoever is killed or at work at the same time."""

import os
import random
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table import compact as compaction
from hat_ray.latency.table.compact import compact
from hat_ray.latency.table.part_file import read_part
from hat_ray.latency.table.parts import is_compacted, part_names
from hat_ray.latency.table.row import SCHEMA, LatencyRow
from hat_ray.latency.table.table import read_table, scan_table, write_rows
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.statistics import Spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.features import hat_features
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder

SPACE = PRESETS["toy"]
DEVICE = DeviceInfo("x", "m", "x86_64", 1, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Linux")


def a_row(number: int, rng: random.Random | None = None) -> LatencyRow:
    """Return a row whose repetitions tell its number; with a generator, one that others may better."""
    rng = rng or random.Random(number)
    architecture = SPACE.sample(random.Random(rng.randrange(6)))
    time = Spread(1.0, 2.0, 3.0, 2.0, 0.5)
    return LatencyRow(
        space_id=SPACE.id,
        architecture=architecture,
        hat_features=tuple(hat_features([architecture])[0].tolist()),
        workload=Workload(vocab_size=100 + rng.randrange(2)),
        device=replace(DEVICE, name=rng.choice(["x", "x", "y"])),
        encoder=time,
        decoder=time,
        total=time,
        encoder_samples_ms=(1.0, 2.0, 3.0),
        decoder_samples_ms=(1.0, 2.0, 3.0),
        repetitions=number,
        warmups=3,
        disturbed=0,
        relative_error=rng.choice([None, 0.01, 0.02]),
        canary=Canary(10.0, 12.0, 0.95),
        context=MeasurementContext("host", rng.choice(["a", "b"]), f"2026-01-31T12:00:{rng.randrange(5):02}Z", ()),
    )


def write_parts(root: Path | Folder, parts: int, seed: int, first: int = 0) -> None:
    rng = random.Random(seed)
    for part in range(parts):
        write_rows(root, [a_row(first + 10 * part + i, rng) for i in range(rng.randrange(1, 4))])


def contents(root: Path | Folder) -> tuple[list[LatencyRow], list[LatencyRow], list[dict[str, object]]]:
    """Return all that readers get."""
    columns = ["architecture_id", "latency_corrected_ms", "utc_time"]
    return read_table(root, every_measurement=True), read_table(root), scan_table(root, columns=columns).to_pylist()


@pytest.mark.parametrize("seed", range(2))
def test_a_compacted_lake_reads_as_it_did_before_again_and_again(tmp_path: Path, seed: int) -> None:
    for round_ in range(3):
        write_parts(tmp_path, 5, seed + 10 * round_, 1000 * round_)
        before = contents(tmp_path)
        done = compact(tmp_path)
        assert contents(tmp_path) == before
        assert (done.files_after, len(part_names(tmp_path))) == (2, 2)
        assert (done.leftovers, done.left_alone) == (0, 0)
    assert compact(tmp_path).rows_moved == 0


def test_a_filter_on_a_session_or_a_workload_finds_its_rows_in_a_compacted_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "ROW_GROUP_ROWS", 5)
    write_parts(tmp_path, 15, seed=3)
    compact(tmp_path)
    rows = read_table(tmp_path, every_measurement=True)
    for session in ("a", "b", "c"):
        found = read_table(tmp_path, session_id=session, every_measurement=True)
        assert found == [row for row in rows if row.context.session_id == session]
    for workload in (Workload(vocab_size=100), Workload(vocab_size=101), Workload(length_mix="1x2")):
        found = read_table(tmp_path, workload=workload)
        assert found == [row for row in read_table(tmp_path) if row.workload == workload]
        assert bool(found) == (workload.length_mix is None)


def test_compactions_that_overlap_double_nothing_and_later_ones_clean_up(tmp_path: Path) -> None:
    """Copies of a lake are compacted apart from one another, with more parts in one or another, and put together."""
    write_parts(tmp_path / "lake", 6, seed=1)
    for i, more in enumerate([3, 5, 0]):
        shutil.copytree(tmp_path / "lake", tmp_path / f"copy{i}")
        write_parts(tmp_path / f"copy{i}", more, seed=10 + i, first=100 * (i + 1))
    together = tmp_path / "together"
    for i in range(3):
        shutil.copytree(tmp_path / f"copy{i}", together, dirs_exist_ok=True)
    expected = contents(together)
    for i in range(3):
        compact(tmp_path / f"copy{i}")
        shutil.copytree(tmp_path / f"copy{i}", together, dirs_exist_ok=True)
        assert contents(together) == expected
    assert sum(is_compacted(name) for name in part_names(together)) >= 4
    compact(together)
    assert contents(together) == expected
    assert len(part_names(together)) == 2


class _DyingFileSystem(LocalFileSystem):
    """A real file system whose process dies at its n-th change: nothing that it does after that has any effect."""

    cachable = False
    changes_left = 10**9

    def _change(self) -> None:
        self.changes_left -= 1
        if self.changes_left < 0:
            raise KeyboardInterrupt

    def mv(self, *args: object, **kwargs: object) -> None:
        self._change()
        super().mv(*args, **kwargs)

    def rm_file(self, *args: object, **kwargs: object) -> None:
        self._change()
        super().rm_file(*args, **kwargs)

    def rm(self, *args: object, **kwargs: object) -> None:
        self._change()
        super().rm(*args, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: object) -> object:
        if "w" in mode:
            self._change()
        return super()._open(path, mode, **kwargs)


def test_a_compaction_that_dies_at_any_step_changes_nothing_for_readers(tmp_path: Path) -> None:
    write_parts(tmp_path / "lake", 3, seed=2)
    expected = contents(tmp_path / "lake")
    for step in range(100):
        lake = tmp_path / f"lake{step}"
        shutil.copytree(tmp_path / "lake", lake)
        dying = Folder.at(lake)
        files = _DyingFileSystem()
        files.changes_left = step
        dying.__dict__["_place"] = pafs.PyFileSystem(pafs.FSSpecHandler(files)), str(lake)
        try:
            compact(dying)
            break
        except KeyboardInterrupt:
            assert contents(lake) == expected
        compact(lake)
        assert contents(lake) == expected
        assert len(part_names(lake)) == 2
    assert 8 < step < 99
    assert contents(lake) == expected


def test_old_temporary_files_are_deleted_and_new_ones_are_not(tmp_path: Path) -> None:
    write_parts(tmp_path, 3, seed=0)
    place = (tmp_path / part_names(tmp_path)[0]).parent
    for name, age_s in ((".part-old.parquet.0a1b2c3d.tmp", 90_000), (".part-new.parquet.0a1b2c3d.tmp", 60)):
        (place / name).write_bytes(b"half")
        changed = (place / name).stat().st_mtime - age_s
        os.utime(place / name, (changed, changed))
    expected = contents(tmp_path)
    assert compact(tmp_path).leftovers == 1
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == [".part-new.parquet.0a1b2c3d.tmp"]
    assert compact(tmp_path, leftover_age=timedelta(seconds=30)).leftovers == 1
    assert contents(tmp_path) == expected


def test_what_cannot_be_read_or_made_rows_of_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_rows(tmp_path, [a_row(1)])
    write_rows(tmp_path, [replace(a_row(2), device=a_row(1).device)])
    folder, (name, _) = Folder.at(tmp_path), part_names(tmp_path)
    place, whole = name.rpartition("/")[0], folder.read_bytes(name)
    broken = folder.read_table(name)
    index = SCHEMA.get_field_index("architecture_json")
    bad = {
        "part-broken.parquet": broken.set_column(index, SCHEMA.field(index), pa.array(["{}"])),
        "part-foreign.parquet": pa.table({"x": [1]}),
    }
    for base, table in bad.items():
        folder.write_table(f"{place}/{base}", table)
    folder.write_bytes(f"{place}/part-truncated.parquet", whole[:-100])
    folder.write_bytes(f"{place}/parts-renamed.parquet", whole)
    expected = contents(tmp_path)
    assert len(expected[0]) == 2
    assert compact(tmp_path).left_alone == 4
    assert [len(rows) for rows in contents(tmp_path)[:2]] == [len(rows) for rows in expected[:2]]
    left = sorted(name.rpartition("/")[2] for name in part_names(tmp_path))
    assert left[:4] == [*sorted([*bad, "part-truncated.parquet"]), left[3]]
    assert "parts-renamed.parquet" in left
    assert "does not hold the parts that its name and footer promise" in caplog.text
    assert "part-broken.parquet is left alone" in caplog.text


def test_columns_of_a_newer_hat_ray_are_kept(tmp_path: Path) -> None:
    write_rows(tmp_path, [a_row(1)])
    folder, (name,) = Folder.at(tmp_path), part_names(tmp_path)
    folder.write_table(name, folder.read_table(name).append_column("moon_phase", pa.array([0.25])))
    write_rows(tmp_path, [replace(a_row(2), device=a_row(1).device)])
    expected = contents(tmp_path)
    compact(tmp_path)
    (name,) = part_names(tmp_path)
    assert read_part(folder, name).table.column("moon_phase").to_pylist() == [0.25, None]
    assert contents(tmp_path) == expected


def test_a_large_part_is_not_written_anew_for_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SMALL_ROWS", 1)
    for i in range(12):
        write_rows(tmp_path, [replace(a_row(i), device=DEVICE)])
    assert compact(tmp_path).rows_moved == 12
    write_rows(tmp_path, [replace(a_row(100), device=DEVICE)])
    assert compact(tmp_path).rows_moved == 0
    for i in range(2):
        write_rows(tmp_path, [replace(a_row(101 + i), device=DEVICE)])
    assert compact(tmp_path).rows_moved in (3, 15)
    assert len(read_table(tmp_path, every_measurement=True)) == 15


def test_a_lake_in_memory_behind_a_uri_is_compacted_too() -> None:
    """A file system that is not this machine's disk; a store like S3 is not at hand in tests."""
    lake = Folder.at("fsspec+memory:///hat-ray-lake")
    try:
        write_parts(lake, 4, seed=5)
        expected = contents(lake)
        assert len(part_names(lake)) > 2
        compact(lake)
        assert len(part_names(lake)) == 2
        assert contents(lake) == expected
    finally:
        fsspec.filesystem("memory").rm("/hat-ray-lake", recursive=True)
