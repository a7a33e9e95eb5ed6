"""Columns against rows: which measurement counts."""

import math

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.best import BEST_COLUMNS, best_measurements
from hat_ray.latency.table.row import LatencyRow, Origin, to_table
from hat_ray.latency.timing.record import MeasurementContext
from hat_ray.latency.timing.statistics import Spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import PRESETS
from tests.latency.best_rows import best_of_each

SPACE = PRESETS["toy"]
DEVICE = DeviceInfo("x", "m", "x86_64", 1, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Linux")
TIME = Spread(None, None, None, 1.0, 0.1)
ARCHITECTURES = (None, SPACE.smallest(), SPACE.largest())
MEASURED = Origin()
WORKLOADS = (Workload(), Workload(batch=2), Workload(length_mix="12x14,20x23"), Workload(source_length=20))


def timed(
    session: str,
    minute: int,
    error: float | None,
    architecture: Architecture | None = ARCHITECTURES[1],
    workload: Workload = WORKLOADS[0],
    origin: Origin = MEASURED,
) -> LatencyRow:
    return LatencyRow(
        space_id=SPACE.id,
        architecture=architecture,
        hat_features=(1.0,) * 10,
        workload=workload,
        device=DEVICE,
        encoder=TIME,
        decoder=TIME,
        total=None,
        encoder_samples_ms=(),
        decoder_samples_ms=(),
        repetitions=None,
        warmups=None,
        disturbed=None,
        relative_error=error,
        canary=None,
        context=MeasurementContext("h", session, f"2026-01-31T12:{minute:02}:00Z", ()),
        origin=origin,
    )


ROWS = st.lists(
    st.builds(
        lambda architecture, workload, session, minute, error, source, line: timed(
            session, minute, error, architecture, workload, Origin("measured", source, line)
        ),
        st.sampled_from(ARCHITECTURES),
        st.sampled_from(WORKLOADS),
        st.sampled_from(["s1", "s2", "s3"]),
        st.integers(0, 3),
        st.sampled_from([None, 0.01, 0.02, 0.5]),
        st.sampled_from(["", "a.csv", "b.csv"]),
        st.sampled_from([None, 0, 1]),
    ),
    max_size=25,
)


@settings(max_examples=300)
@given(ROWS, st.booleans())
def test_columns_resolve_duplicates_as_rows_do(rows: list[LatencyRow], in_chunks: bool) -> None:
    table = to_table(rows).select(BEST_COLUMNS)
    if in_chunks and len(rows) > 2:
        table = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    kept = [rows[i] for i in best_measurements(table)]
    assert [id(row) for row in kept] == [id(row) for row in best_of_each(rows)]


def test_what_a_session_timed_again_counts_even_when_another_session_stands_between() -> None:
    first, other, again = timed("a", 1, 0.01), timed("b", 2, 0.015), timed("a", 3, 0.02)
    for rows in ([first, other, again], [first, again, other], [other, first, again]):
        assert best_of_each(rows) == [other]


def test_an_error_that_is_not_a_number_is_the_worst() -> None:
    rows = [timed("a", 0, math.nan), timed("b", 0, 0.5)]
    assert best_of_each(rows) == [rows[1]]
    assert best_measurements(to_table(rows)).tolist() == [1]
