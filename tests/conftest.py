"""Fixtures that every room's tests share."""

import gc
import os
import re
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.exported import exported, exported_ct2, knowing
from tests.s3 import CREDENTIALS, S3, served

__all__ = ["exported", "exported_ct2", "knowing"]

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault(
    "RAY_health_check_period_ms", "1000"
)  # a killed raylet is missed within seconds, not half a minute
# on a busy machine what lives may be slow to answer: a worker that imports PyTorch, a raylet, Serve's proxy
for variable, value in {
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_register_timeout_seconds": "240",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}.items():
    os.environ.setdefault(variable, value)
# before PyTorch is imported: on a busy machine two threads that wait for each other take ten times as long as one
os.environ.setdefault("OMP_NUM_THREADS", "1")
# how long an example takes is the machine's business, and no property of the code
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


NEEDS_RAY = re.compile(r"^(?:import|from) (?:ray|hat_ray\.cluster)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the files that import Ray where it is not installed (`make test-minimal`)."""
    if find_spec("ray") or collection_path.suffix != ".py":
        return None
    return True if NEEDS_RAY.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave what is looked at in a browser to the lane of that name."""
    if "browser" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.browser)


def pytest_collection_finish() -> None:
    """Leave what was imported out of later garbage collections: each timing makes one, in a quarter of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that other users reach too, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The verification data, which is not part of the repository: `$HAT_RAY_SHARED` or `../shared`."""
    place = Path(os.environ.get("HAT_RAY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (place / "hat").is_dir():
        pytest.skip("verification data not found: set HAT_RAY_SHARED to its folder")
    return place


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server, for all tests of a process."""
    with pytest.MonkeyPatch.context() as patch, served(tmp_path_factory.mktemp("s3") / "moto.log") as server:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """The S3 server, on which nothing goes wrong until a test says so."""
    s3_server.faults = s3_server.only_key = None
    yield s3_server
    s3_server.faults = s3_server.only_key = None
