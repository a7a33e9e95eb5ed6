import logging
import random
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from hat_ray.core.columns.layout import Columns
from hat_ray.latency.detection import detect
from hat_ray.latency.table.row import SCHEMA, SCHEMA_VERSION, LatencyRow, from_table, to_table
from hat_ray.latency.table.table import part_names, read_table, scan_table, write_rows
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.statistics import spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.features import hat_features
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.processes import process_of

SPACE = PRESETS["toy"]
DEVICE = detect(name="bench", accelerator="cpu")
DERIVED = ("schema_version", "architecture_id", "latency_ms", "latency_corrected_ms", "device_slug")


def a_row(seed: int, *, error: float = 0.01, utc_time: str = "2026-01-31T12:00:00Z") -> LatencyRow:
    architecture = SPACE.sample(random.Random(seed))
    encoder = tuple(np.random.default_rng(seed).uniform(1, 2, 7).astype(np.float32).tolist())
    decoder = tuple(np.random.default_rng(seed).uniform(30, 50, 7).astype(np.float32).tolist())
    total = [e + d for e, d in zip(encoder, decoder, strict=True)]
    return LatencyRow(
        space_id=SPACE.id,
        architecture=architecture,
        hat_features=tuple(hat_features([architecture])[0].tolist()),
        workload=Workload(vocab_size=100),
        device=DEVICE,
        encoder=spread(encoder),
        decoder=spread(decoder),
        total=spread(total),
        encoder_samples_ms=encoder,
        decoder_samples_ms=decoder,
        repetitions=7,
        warmups=3,
        relative_error=error,
        canary=Canary(10.0, 12.0, 0.95),
        disturbed=2,
        context=MeasurementContext("host", "session", utc_time, (("python", "3"), ("torch", "2")), 0, 0.5),
    )


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [a_row(seed) for seed in range(5)]
    names = write_rows(tmp_path, rows)
    assert [name.rsplit("/", 1)[0] for name in names] == [f"space={SPACE.id}/device={DEVICE.slug}"]
    assert read_table(tmp_path) == rows
    assert rows[0].corrected_ms == pytest.approx(rows[0].latency_ms * 0.95)


def test_a_reader_that_knows_only_hive_and_parquet_reads_the_table_and_its_units(tmp_path: Path) -> None:
    write_rows(tmp_path, [a_row(1), a_row(2)])
    table = ds.dataset(tmp_path, format="parquet", partitioning="hive").to_table()
    assert set(table.column("device").to_pylist()) == {DEVICE.slug}
    medians = [np.median(samples) for samples in table.column("decoder_samples_ms").to_pylist()]
    assert table.column("decoder_p50_ms").to_pylist() == pytest.approx(medians)


def test_a_filter_opens_no_file_of_other_spaces_and_devices(tmp_path: Path) -> None:
    mine, other_device = a_row(1), replace(a_row(1), device=replace(DEVICE, name="other"))
    other_space = replace(a_row(1), space_id="ffffffff")
    write_rows(tmp_path, [mine, other_device, other_space])
    for name in part_names(tmp_path):
        if not name.startswith(f"space={SPACE.id}/device={DEVICE.slug}/"):
            Folder.at(tmp_path).write_bytes(name, b"never to be opened")
    assert read_table(tmp_path, SPACE.id, DEVICE.slug) == [mine]
    assert read_table(tmp_path, "00000000") == []
    assert read_table(tmp_path / "nowhere") == []


def test_within_a_session_what_was_timed_again_is_read(tmp_path: Path) -> None:
    first, second = a_row(1, error=0.005), a_row(1, error=0.02, utc_time="2026-02-01T00:00:00Z")
    write_rows(tmp_path, [second])
    write_rows(tmp_path, [first])
    assert read_table(tmp_path) == [second]


def test_the_better_of_two_measurements_of_one_thing_is_read(tmp_path: Path) -> None:
    good, poor = a_row(1, error=0.005), a_row(1, error=0.2, utc_time="2026-02-01T00:00:00Z")
    poor = replace(poor, context=replace(poor.context, session_id="another"))
    longer = replace(good, workload=replace(good.workload, target_length=60))
    write_rows(tmp_path, [poor, good])
    write_rows(tmp_path, [poor, longer])
    assert sorted(read_table(tmp_path), key=lambda row: row.workload.target_length) == [good, longer]
    assert len(read_table(tmp_path, every_measurement=True)) == 4


def test_damaged_foreign_and_misplaced_files_are_named_and_skipped_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, place = Folder.at(tmp_path), f"space={SPACE.id}/device={DEVICE.slug}"
    whole = folder.read_bytes(write_rows(tmp_path, [a_row(1)])[0])
    table = folder.read_table(part_names(tmp_path)[0])
    future = {"hat_ray.table": "latency", "hat_ray.schema_version": str(SCHEMA_VERSION + 1)}
    bad_architecture = table.set_column(
        table.column_names.index("architecture_json"), SCHEMA.field("architecture_json"), pa.array(["{}"])
    )
    folder.write_bytes(f"{place}/part-truncated.parquet", whole[: len(whole) // 2])
    folder.write_bytes(f"{place}/part-empty.parquet", b"")
    folder.write_table(f"{place}/part-foreign.parquet", pa.table({"x": [1]}))
    folder.write_table(f"{place}/part-future.parquet", table.replace_schema_metadata(future))
    folder.write_table(f"{place}/part-thin.parquet", table.drop_columns(["latency_ms"]))
    folder.write_table(f"{place}/part-broken.parquet", bad_architecture)
    folder.write_bytes(f"space={SPACE.id}/device=elsewhere/part-misplaced.parquet", whole)
    folder.write_bytes(f"{place}/part-half.parquet.1234.tmp", whole[:100])
    with caplog.at_level(logging.WARNING):
        assert read_table(tmp_path) == [a_row(1)]
    warned = "\n".join(record.getMessage() for record in caplog.records)
    for name in ("truncated", "empty", "foreign", "future", "thin", "broken", "misplaced"):
        assert f"part-{name}.parquet is skipped: " in warned
    assert "half" not in warned
    assert "newer" in warned
    assert "column latency_ms is missing" in warned


def test_a_part_of_an_older_or_newer_minor_schema_is_read(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    name = write_rows(tmp_path, [a_row(1)])[0]
    table = folder.read_table(name).drop_columns(["load_average"]).append_column("moon_phase", pa.array([1.0]))
    folder.write_table(name, table)
    row = read_table(tmp_path)[0]
    assert row.context.load_average is None
    assert row.latency_ms == a_row(1).latency_ms
    assert scan_table(tmp_path, columns=["load_average", "latency_ms"]).to_pylist() == [
        {"load_average": None, "latency_ms": row.latency_ms}
    ]


def test_scanning_gives_columns_of_every_measurement(tmp_path: Path) -> None:
    write_rows(tmp_path, [a_row(1), a_row(1), a_row(2)])
    table = scan_table(tmp_path, SPACE.id, columns=["latency_ms"])
    assert table.column_names == ["latency_ms"]
    assert len(table) == 3
    assert scan_table(tmp_path / "nowhere").schema.equals(SCHEMA)


def _write_many(root: str, first: int) -> None:
    for seed in range(first, first + 5):
        write_rows(root, [a_row(seed, error=seed / 1000)])


def test_writers_in_several_processes_lose_nothing(tmp_path: Path) -> None:
    writers = [process_of(_write_many, str(tmp_path), 5 * i) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(240)
    assert [writer.exitcode for writer in writers] == [0] * 4
    rows = read_table(tmp_path, every_measurement=True)
    assert sorted(row.relative_error or 0 for row in rows) == [seed / 1000 for seed in range(20)]


def test_the_table_lives_behind_a_uri_too(tmp_path: Path) -> None:
    root = Folder.at(f"file://{tmp_path}/lake")
    write_rows(root, [a_row(1)])
    assert read_table(root) == [a_row(1)]


def test_the_schema_has_no_column_whose_number_lacks_a_unit_or_a_count() -> None:
    for field in SCHEMA:
        if "latency" in field.name or "samples" in field.name or "canary" in field.name:
            assert field.name.endswith("_ms")


def test_shipped_rows_are_written_again_as_they_were() -> None:
    root = Path(__file__).parents[2]
    parts = [*root.glob("latency_data/*/*/*.parquet"), *root.glob("tests/golden/run/latency/table/*/*/*.parquet")]
    assert parts
    for part in parts:
        table = pq.ParquetFile(part).read().drop_columns(["schema_version"])  # some have an earlier one
        again = to_table(from_table(table))
        assert again.schema.equals(SCHEMA, check_metadata=True)
        for name in table.column_names:
            assert again[name].equals(table[name]), f"{part} {name}"


def test_a_new_column_is_one_new_field() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Longer(LatencyRow):
        fan_rpm: float | None = None

    wider = Columns(Longer, version=2)
    assert wider.schema.names == [name for name in SCHEMA.names if name not in DERIVED] + ["fan_rpm"]
    values = {field.name: getattr(a_row(1), field.name) for field in fields(LatencyRow)}
    rows = [Longer(**values, fan_rpm=900.0), Longer(**values)]
    assert wider.rows(wider.to_table(rows)) == rows
    assert wider.rows(to_table([a_row(1)])) == rows[1:]
    assert from_table(wider.to_table(rows)) == [a_row(1)] * 2
