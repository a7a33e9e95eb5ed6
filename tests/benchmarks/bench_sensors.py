"""How long a timing waits for the sensors: `make bench`, or this file with `-m benchmark -s`."""

import time

import numpy as np
import pytest

from hat_ray.latency.timing.sensors.machine_state import Sensors

pytestmark = pytest.mark.benchmark


def test_a_full_reading() -> None:
    sensors, taken_ms = Sensors(1), []
    for _ in range(100):
        started = time.perf_counter()
        sensors.start()
        sensors.stop()
        taken_ms.append((time.perf_counter() - started) * 1e3)
    assert len(taken_ms) == 100
    print(f"a full reading, before and after: median {np.median(taken_ms):.2f} ms, least {min(taken_ms):.2f} ms")
