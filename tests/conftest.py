"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

from tests.exported import exported, exported_ct2

__all__ = ["exported", "exported_ct2"]

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault(
    "RAY_health_check_period_ms", "1000"
)  # a killed raylet is missed within seconds, not half a minute
# before PyTorch is imported: on a busy machine two threads that wait for each other take ten times as long as one
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The verification data, which is not part of the repository: `$HAT_RAY_SHARED` or `../shared`."""
    place = Path(os.environ.get("HAT_RAY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (place / "hat").is_dir():
        pytest.skip("verification data not found: set HAT_RAY_SHARED to its folder")
    return place
