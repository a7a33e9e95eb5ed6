import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import hat_oracle


@pytest.fixture(scope="session", params=hat_oracle.VARIANTS)
def oracle(request: pytest.FixtureRequest, shared: Path) -> hat_oracle.Oracle:
    return hat_oracle.load(shared, request.param)
