"""Latency tables on a real S3 server that refuses, does not answer, or breaks off: no row is lost, none is invented."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hat_ray.cli import main
from hat_ray.errors import DeniedError, NotFoundError, StorageError
from hat_ray.latency.table.compact import compact
from hat_ray.latency.table.exchange import export_csvs, import_csv, import_table
from hat_ray.latency.table.hat_csv import export_hat_csv
from hat_ray.latency.table.parts import is_compacted, part_names
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.summary import describe_table
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.table.validate import validate
from hat_ray.latency.timing.workload import Workload
from hat_ray.predictor.rows import read_rows
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from hat_ray.storage.patience import PATIENCE
from tests.latency.test_lake_commands import DEVICE, LINE, SPACE, a_row, hat_ray
from tests.s3 import S3, Faults

EVERYTHING = ("GET", "HEAD", "PUT", "POST", "DELETE")
PARTS = 4


def rows_of_part(number: int) -> list[LatencyRow]:
    """Two devices take turns; a row's seed is told by its time."""
    device = DEVICE if number % 2 else replace(DEVICE, name="rack-8")
    return [replace(a_row(seed), device=device) for seed in (2 * number, 2 * number + 1)]


def fill(root: Folder | str | Path) -> None:
    for number in range(PARTS):
        write_rows(root, rows_of_part(number))


@dataclass(frozen=True)
class Found:
    """What a table holds: rows in their order, and the content of its files."""

    rows: list[LatencyRow]
    files: dict[str, bytes]


def found(root: Folder | str | Path) -> Found:
    folder = Folder.at(root)
    return Found(
        read_table(root, every_measurement=True), {name: folder.read_bytes(name) for name in part_names(folder)}
    )


def csvs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    """The same table where nothing goes wrong."""
    fill(tmp_path / "twin")
    return tmp_path / "twin"


@contextmanager
def half_of_all_gets_refused(s3: S3, seed: int = 0) -> Iterator[None]:
    with s3.going_wrong(Faults("refuse", 0.5, ("GET",), seed)) as faults:
        yield
    assert faults.count


@pytest.mark.slow
def test_import_export_and_compaction_take_the_same_rows_while_half_of_all_gets_are_refused(
    s3: S3, tmp_path: Path, twin: Path
) -> None:
    lake = Folder.at(s3.place("lake"))
    with half_of_all_gets_refused(s3):
        told = import_table(lake, twin)
    assert (told.files, told.rows, told.skipped) == (PARTS, 2 * PARTS, ())
    undisturbed = found(twin)
    assert found(lake) == undisturbed
    with half_of_all_gets_refused(s3, 3):
        assert import_table(tmp_path / "copy", lake).rows == 2 * PARTS
        assert import_table(lake, twin).known == PARTS
    assert found(tmp_path / "copy") == undisturbed
    with half_of_all_gets_refused(s3, 15):
        export_csvs(lake, tmp_path / "out")
    export_csvs(twin, tmp_path / "expected")
    assert csvs(tmp_path / "out") == csvs(tmp_path / "expected")
    with half_of_all_gets_refused(s3, 22):
        done = compact(lake)
    assert (done.files_before, done.files_after, done.rows_moved, done.left_alone) == (PARTS, 2, 2 * PARTS, 0)
    compact(twin)
    assert found(lake) == found(twin)
    assert found(lake).rows == undisturbed.rows


def test_a_csv_file_of_hats_is_imported_from_the_store(
    s3: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = export_hat_csv([]).strip() + "\n" + LINE
    (tmp_path / "wmt14ende_cpu_xeon_all.csv").write_text(content)
    folder = Folder.at(s3.place("files"))
    folder.write_text("wmt14ende_cpu_xeon_all.csv", content)
    folder.write_bytes("other_all.csv", b"\x1f\x8b packed")
    code, done, _ = hat_ray(
        capsys, "import", tmp_path / "lake", folder.place_of("wmt14ende_cpu_xeon_all.csv"), "--json"
    )
    assert (code, [each["rows"] for each in done["sources"].values()]) == (0, [1])
    again = hat_ray(capsys, "import", tmp_path / "lake", tmp_path / "wmt14ende_cpu_xeon_all.csv", "--json")[1]
    assert [each["known"] for each in again["sources"].values()] == [1], "the same rows from wherever they come"
    for name, why in [("gpu", "does not exist: check its address"), ("other", "is a gzip file, no text")]:
        code, _, line = hat_ray(capsys, "import", tmp_path / "lake", folder.place_of(f"{name}_all.csv"))
        assert code == 2
        assert f"{name}_all.csv" in line
        assert why in line


def test_readers_see_all_rows_while_half_of_all_gets_are_refused(s3: S3, twin: Path) -> None:
    lake = Folder.at(s3.place("lake"))
    import_table(lake, twin)
    with half_of_all_gets_refused(s3):
        assert read_table(lake, every_measurement=True) == read_table(twin, every_measurement=True)
        fitted = read_rows(lake, SPACE.id, DEVICE.slug)
        assert fitted.fingerprint == read_rows(Folder.at(twin), SPACE.id, DEVICE.slug).fingerprint
        assert describe_table(lake) == describe_table(twin)
        assert validate(lake) == validate(twin)


ACTIONS: dict[str, Callable[[Folder, Path], object]] = {
    "import": import_table,
    "export": lambda lake, twin: export_csvs(lake, twin.parent / "out"),
    "compact": lambda lake, twin: compact(lake),
    "read": lambda lake, twin: read_table(lake),
    "describe": lambda lake, twin: describe_table(lake),
    "validate": lambda lake, twin: validate(lake),
    "fit": lambda lake, twin: read_rows(lake, SPACE.id, DEVICE.slug),
}


@pytest.mark.parametrize(
    "action",
    [pytest.param(name, marks=[] if name in ("import", "compact", "fit") else pytest.mark.slow) for name in ACTIONS],
)
def test_what_stays_refused_ends_it_with_nothing_changed(
    s3: S3, twin: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    lake = Folder.at(s3.place("lake"))
    import_table(lake, twin)
    monkeypatch.setenv(PATIENCE, "0.2")
    before = found(lake)
    with s3.going_wrong(Faults("refuse", 1.0, EVERYTHING)), pytest.raises(DeniedError) as refused:
        ACTIONS[action](lake, twin)
    assert len(str(refused.value).splitlines()) == 1
    assert found(lake) == before
    assert not (twin.parent / "out").exists()


@pytest.mark.parametrize("action", ["import", "export", "compact"])
@pytest.mark.parametrize("seeds", [2, pytest.param(24, marks=pytest.mark.slow)])
def test_wherever_it_is_stopped_no_row_is_lost_and_the_same_command_ends_it(
    s3: S3, twin: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: str, seeds: int
) -> None:
    export_csvs(twin, tmp_path / "expected")
    rows, stopped = read_table(twin, every_measurement=True), 0
    for seed in range(seeds):
        lake = Folder.at(s3.place("lake"))
        if action != "import":
            import_table(lake, twin)
        monkeypatch.setenv(PATIENCE, "0")
        share = (0.3, 0.05, 0.1, 0.02)[seed % 4]
        with s3.going_wrong(Faults("refuse", share, EVERYTHING, seed)):
            try:
                ACTIONS[action](lake, twin)
            except StorageError:
                stopped += 1
        monkeypatch.delenv(PATIENCE)
        now = found(lake)
        if action == "import":
            whole = found(twin).files
            assert all(whole[name] == content for name, content in now.files.items())
        else:
            assert now.rows == rows
        written = csvs(tmp_path / "out") if (tmp_path / "out").exists() else {}
        assert all(csvs(tmp_path / "expected")[name] == text for name, text in written.items())
        ACTIONS[action](lake, twin)
        assert read_table(lake, every_measurement=True) == rows
        if action == "compact":
            assert [is_compacted(name) for name in part_names(lake)] == [True, True]
    assert stopped >= seeds / 4


def test_a_csv_file_is_imported_whole_or_not_at_all(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lake = tmp_path / "mine.csv", Folder.at(s3.place("lake"))
    path.write_text(export_hat_csv([]) + LINE * 50)
    settings = {"space_id": PRESETS["hat-latency"].id, "device": DEVICE, "workload": Workload()}
    monkeypatch.setenv(PATIENCE, "0.2")
    with s3.going_wrong(Faults("refuse", 1.0, ("PUT", "POST"))), pytest.raises(StorageError):
        import_csv(lake, path, **settings)  # type: ignore[arg-type]
    assert part_names(lake) == []
    monkeypatch.delenv(PATIENCE)
    import_csv(lake, path, **settings)  # type: ignore[arg-type]
    with half_of_all_gets_refused(s3):
        import_csv(lake, path, **settings)  # type: ignore[arg-type]
    assert len(read_table(lake)) == 50


def test_the_command_line_ends_with_one_line_and_code_1(
    s3: S3, twin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, place = Folder.at(s3.place("lake")), str(twin)
    import_table(lake, twin)
    monkeypatch.setenv(PATIENCE, "0.1")
    before = found(lake)
    for command in (["show"], ["validate"], ["compact"], ["import", place], ["export", str(twin.parent / "out")]):
        with s3.going_wrong(Faults("refuse", 1.0, EVERYTHING)), pytest.raises(SystemExit) as left:
            main(["latency", command[0], lake.uri, *command[1:]])
        told = capsys.readouterr()
        assert left.value.code == 1
        [error] = [line for line in told.err.splitlines() if not line.startswith("WARNING")]
        assert "access to s3://" in error
        assert told.out == ""
    assert found(lake) == before


def test_a_bucket_that_does_not_exist_is_no_empty_table(s3: S3, tmp_path: Path) -> None:
    nobody = f"s3://nobody-made-this/lake?{s3.query}"
    for action in (read_table, describe_table, validate, compact):
        with pytest.raises(NotFoundError, match="bucket"):
            action(nobody)
    with pytest.raises(NotFoundError, match="bucket"):
        import_table(tmp_path / "lake", nobody)
    assert read_table(s3.place("new")) == []
    with pytest.raises(NotFoundError, match="name a folder that does"):
        describe_table(s3.place("new"))
