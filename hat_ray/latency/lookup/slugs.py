"""The parts of a device's id: its hardware, and the software settings behind it."""

import re
from functools import cache

from hat_ray.latency.device import slugify
from hat_ray.runtime.protocol import RUNTIMES


def hardware_of(slug: str) -> str:
    """Return the part of a device's id that names the hardware: devices that share it differ in software alone."""
    return _settings().sub("", slug)


def settings_of(slug: str) -> str:
    """Return the software in a device's id, such as "onnx int8, 2 threads"; the whole id where it names none."""
    found = _settings().search(slug)
    if found is None:
        return slug
    threads, runtime, dtype, _ = found.groups()
    return f"{runtime} {dtype}, {threads} thread{'' if threads == '1' else 's'}"


@cache
def _settings() -> re.Pattern[str]:
    """Return the pattern of threads, runtime, dtype and quantisation at the end of a device's id."""
    names = "|".join(slugify(name) for name in RUNTIMES.names)
    return re.compile(rf"-(\d+)t-({names})-([a-z0-9]+)(-[a-z0-9]+)?$")
