from dataclasses import replace
from pathlib import Path

import pytest

from hat_ray.errors import LatencyError
from hat_ray.latency.detection import detect
from hat_ray.latency.table.hat_csv import export_hat_csv, import_hat_csv
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.presets import PRESETS

DEVICE = replace(detect(name="hat", accelerator="cpu"), model="Intel Xeon E5-2640 v4", isa=("avx2",))
AS = {"space_id": PRESETS["hat-latency"].id, "device": DEVICE, "workload": Workload(vocab_size=32768)}


def test_hats_published_tables_go_through_the_lake_and_come_out_equal(shared: Path, tmp_path: Path) -> None:
    paths = sorted((shared / "hat" / "latency_dataset").glob("*.csv"))
    assert len(paths) == 8
    for path in paths:
        write_rows(tmp_path, import_hat_csv(path, **AS))  # type: ignore[arg-type]
    lake = read_table(tmp_path)
    for path in paths:
        rows = [row for row in lake if row.origin.source == path.name]
        assert len(rows) == 2000
        assert rows[0].origin.provenance == "imported, averages only"
        assert export_hat_csv(rows) == path.read_text()


def test_a_table_imported_twice_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    header = export_hat_csv([])
    path.write_text(header + "640,6,2048.0,4.0,512,3,1024.0,4.0,4.0,2.0,5.5,120.5,0.1,0.5\n" * 2)
    for _ in range(2):
        write_rows(tmp_path / "lake", import_hat_csv(path, **AS))  # type: ignore[arg-type]
    rows = read_table(tmp_path / "lake")
    assert [row.latency_ms for row in rows] == [126.0, 126.0]
    assert export_hat_csv(rows) == path.read_text()


@pytest.mark.parametrize(
    ("text", "message"), [("a,b\n1,2\n", "first line must be"), (None, "line 3: .*'x'"), ("", "first")]
)
def test_a_file_that_is_not_hats_is_refused_with_its_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(export_hat_csv([]) + "1," * 13 + "1\n" + "x," * 13 + "1\n" if text is None else text)
    with pytest.raises(LatencyError, match=rf"bad\.csv.*{message}"):
        import_hat_csv(path, **AS)  # type: ignore[arg-type]
