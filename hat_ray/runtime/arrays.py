"""Engines whose work is done on numpy's arrays: translations and timings spare them PyTorch's tensors."""

from typing import Protocol, runtime_checkable

from hat_ray.runtime.standalone.beams import ArrayEngine


@runtime_checkable
class OnArrays(Protocol):
    """An engine that has its graphs as `arrays`, which work without PyTorch."""

    @property
    def arrays(self) -> ArrayEngine: ...
