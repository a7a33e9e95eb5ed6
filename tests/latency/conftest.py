"""A clock that no other process disturbs."""

from collections.abc import Iterator

import pytest
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def time_is_work(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlopCounterMode]:
    """Let `time.perf_counter` tell the floating-point operations of matrix products so far, a billion a second."""
    with FlopCounterMode(display=False) as work:
        monkeypatch.setattr("time.perf_counter", lambda: work.get_total_flops() / 1e9)
        yield work
