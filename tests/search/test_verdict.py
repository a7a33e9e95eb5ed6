"""The one rule for a limit: kept, above it within the error of the measurement, missed, or not measured."""

import pytest

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.limits import Limit, Measured, Verdict, verdict

LIMIT = Limit.of("pi4", latency_ms=40.0)


@pytest.mark.parametrize(
    ("ms", "error", "expected"),
    [
        (39.9, 0.01, Verdict.KEPT),
        (40.0, None, Verdict.KEPT),
        (40.01, None, Verdict.MISSED),  # an error that is not known excuses nothing
        (40.01, 0.0, Verdict.MISSED),
        (40.8, 0.01, Verdict.WITHIN_ERROR),  # 2 % of 40.8 ms are 0.816 ms
        (40.83, 0.01, Verdict.MISSED),
        (43.9, 0.05, Verdict.WITHIN_ERROR),
        (43.9, 0.01, Verdict.MISSED),  # within 10 %, which was the page's rule once
        (44.5, 0.05, Verdict.MISSED),
        (44.5, 0.40, Verdict.MISSED),  # a disturbed machine excuses no more than 5 % of error do
    ],
)
def test_what_is_above_by_less_than_two_errors_is_within_the_error(ms: float, error: float | None, expected: Verdict):
    found = verdict(LIMIT, {LATENCY: Measured(ms, error)})
    assert found is expected
    assert found.holds is (expected is not Verdict.MISSED)


def test_what_was_not_measured_holds_nothing():
    assert verdict(LIMIT, {}) is Verdict.NOT_MEASURED
    assert not Verdict.NOT_MEASURED.holds
