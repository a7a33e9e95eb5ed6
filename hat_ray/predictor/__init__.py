"""Latency of an architecture on a device: a physical prior with boosted trees on its residual."""
