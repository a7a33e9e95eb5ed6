"""FIFOs, devices, sockets and links in a latency table: named, and never opened."""

import io
import logging
import os
import socket
from pathlib import Path

import pytest

from hat_ray.errors import HatRayError
from hat_ray.latency.table.compact import compact
from hat_ray.latency.table.exchange import export_csvs, import_table
from hat_ray.latency.table.parts import part_names
from hat_ray.latency.table.summary import describe_table
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.table.validate import validate
from hat_ray.predictor.rows import read_rows
from hat_ray.storage.folder import Folder
from tests.bounded import bounded
from tests.latency.test_lake_commands import DEVICE, SPACE, a_row

KINDS = {
    "fifo": "a FIFO",
    "zero": "a device",
    "socket": "a socket",
    "dead": "a link that leads nowhere",
    "loop": "a link that leads back to itself",
}


def make_special(folder: Path, prefix: str = "", suffix: str = "") -> list[str]:
    """Put one of each kind into a folder; return their names."""
    names = {kind: f"{prefix}{kind}{suffix}" for kind in KINDS}
    os.mkfifo(folder / names["fifo"])
    (folder / names["zero"]).symlink_to("/dev/zero")
    (folder / names["dead"]).symlink_to(folder / "nowhere")
    (folder / names["loop"]).symlink_to(folder / names["loop"])
    here = os.getcwd()
    os.chdir(folder)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(names["socket"])
    finally:
        os.chdir(here)
    return [*names.values()]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A table with special files at each of its levels, and folders and files in each other's place."""
    root = tmp_path / "lake"
    for seed in range(4):
        [name] = write_rows(root, [a_row(seed)])
    place = root / name.rpartition("/")[0]
    make_special(root)
    make_special(root, "space=")
    make_special(place.parent, "device=")
    make_special(place, "part-", ".parquet")
    (root / "space=file").write_text("no folder")
    (place.parent / "device=file").write_text("no folder")
    (place / "part-folder.parquet").mkdir()
    (place.parent / "device=up").symlink_to(root)
    return root


def test_readers_pass_over_what_is_no_plain_file_and_name_it(lake: Path) -> None:
    expected = [a_row(seed) for seed in range(4)]

    def read_all() -> list[object]:
        lines = io.StringIO()
        logging.getLogger("hat_ray").addHandler(logging.StreamHandler(lines))
        rows = [read_table(lake), read_table(lake, SPACE.id, DEVICE.slug)]
        fitted = len(read_rows(Folder.at(lake), SPACE.id, DEVICE.slug))
        return [rows == [expected] * 2, fitted, [group.rows for group in describe_table(lake)], lines.getvalue()]

    same, fitted, shown, warned = bounded(read_all, seconds=20)
    assert (same, fitted, shown) == (True, 4, [4])
    for kind, words in KINDS.items():
        for prefix, suffix in (("", ""), ("space=", ""), ("device=", ""), ("part-", ".parquet")):
            assert f"/{prefix}{kind}{suffix} is passed over: it is {words}, no plain file" in warned
    for name in ("space=file", "device=file"):
        assert f"/{name} is passed over: a file stands where a folder should be" in warned
    assert "/part-folder.parquet is passed over: it is a folder, no part" in warned


def test_validate_names_each_once_and_finds_nothing_else(lake: Path) -> None:
    def check() -> list[list[str]]:
        return [[problem.file, problem.rule] for problem in validate(lake).problems]

    found = dict(bounded(check, seconds=20))
    place = part_names(lake)[0].rpartition("/")[0]
    space = place.partition("/")[0]
    for kind, words in KINDS.items():
        for name in (kind, f"space={kind}", f"{space}/device={kind}", f"{place}/part-{kind}.parquet"):
            assert found.pop(name) == f"a table holds plain files, got {words}"
    assert found == {
        "space=file": "a folder must stand here, got a file",
        f"{space}/device=file": "a folder must stand here, got a file",
        f"{place}/part-folder.parquet": "a part must be a plain file, got a folder",
        f"{space}/device=up": "each folder must stand once, got a link that leads back",
    }


def test_compaction_import_and_export_leave_them_alone(lake: Path, tmp_path: Path) -> None:
    def work() -> list[object]:
        (lake / "device=up").unlink(missing_ok=True)
        told = import_table(tmp_path / "copy", lake)
        rows = [told.rows, *export_csvs(lake, tmp_path / "out").values()]
        done = compact(lake)
        return [*rows, done.rows_moved, len(read_table(lake))]

    before = {path for path in lake.rglob("*") if not path.name.startswith("part-0")}
    assert bounded(work, seconds=30) == [4, 4, 4, 4]
    assert read_table(tmp_path / "copy") == read_table(lake) == [a_row(seed) for seed in range(4)]
    assert before <= set(lake.rglob("*"))


def test_a_file_where_the_lake_should_be_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "lake", tmp_path / "fifo", tmp_path / "lake" / "below"):
        for action in (read_table, describe_table, validate, compact):
            with pytest.raises(HatRayError) as refused:
                action(place)
            assert len(str(refused.value).splitlines()) == 1
            assert str(place) in str(refused.value)
        with pytest.raises(HatRayError, match="stands where"):
            write_rows(place, [a_row(1)])
