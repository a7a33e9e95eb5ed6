"""The size of a stored model on disk, in MB of 1,000,000 bytes, for a device's runtime and dtype."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from hat_ray.core.registry import imported
from hat_ray.latency.quantities import MB, MODEL_SIZE, QUANTITIES, Computed, DeviceProfile
from hat_ray.runtime.protocol import RUNTIMES
from hat_ray.runtime.size import StoredModel
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray, IntArray

_ModelBytes = Callable[[Sequence[Architecture], StoredModel], IntArray]


def model_mb(architectures: Sequence[Architecture], profile: DeviceProfile) -> FloatArray:
    """Return the MB, (N,), of architectures' stored models."""
    target = RUNTIMES.facts(profile.device.runtime).model_bytes
    assert target is not None, "`unavailable` is asked first"
    source, words = profile.workload.vocab_sizes
    stored = StoredModel(profile.model_config, words, profile.device.dtype, profile.super_dims, source)
    return np.asarray(cast(_ModelBytes, imported(target))(architectures, stored) / MB)


def unavailable(profile: DeviceProfile) -> str | None:
    """Return why a runtime's models have no known size, and the remedy; None: it is known."""
    runtime = profile.device.runtime
    if RUNTIMES.facts(runtime).model_bytes is not None:
        return None
    return f"runtime {runtime} does not report the size of its models (RuntimeFacts.model_bytes): leave model_mb out"


MODEL_MB = Computed(QUANTITIES.facts(MODEL_SIZE), model_mb, unavailable)
