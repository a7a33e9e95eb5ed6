"""Quantities of a package that is not hat-ray: one is computed, one is measured. Its text is installed as a package."""

import numpy as np

from hat_ray.latency.quantities import Computed, Measured, QuantityFacts


def layers(architectures, profile):
    return np.array([one.encoder.depth + one.decoder.depth for one in architectures], dtype=np.float64)


def heat(architecture, profile):
    """Stand for a sensor: what the architecture alone decides."""
    return 20.0 + sum(architecture.decoder.ffn_dims) / 100


LAYERS = Computed(QuantityFacts("layers of both sides", "layers"), layers)
HEAT = Measured(QuantityFacts("heat", "degrees"), heat, "plug the sensor in")
