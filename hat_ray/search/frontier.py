"""The frontier: what no other candidate beats in both loss and latency, and how much of the plane it takes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def pareto_front(losses: Sequence[float] | FloatArray, latencies_ms: Sequence[float] | FloatArray) -> list[int]:
    """Return the places of the points that no other point beats, fastest first; both arrays (N,), smaller is better.

    A point beats another when it is no worse in both and better in one; equal points therefore stand together.
    Points with a NaN or an infinite value stand aside.
    """
    loss, latency = np.asarray(losses, dtype=np.float64), np.asarray(latencies_ms, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(loss) & np.isfinite(latency))
    order = finite[np.lexsort((loss[finite], latency[finite]))]
    front: list[int] = []
    for place in order.tolist():
        last = front[-1] if front else None
        if last is None or loss[place] < loss[last] or (loss[place] == loss[last] and latency[place] == latency[last]):
            front.append(place)
    return front


def hypervolume(
    losses: Sequence[float] | FloatArray, latencies_ms: Sequence[float] | FloatArray, reference: tuple[float, float]
) -> float:
    """Return the area that the points dominate up to `reference`, a (loss, latency) that they should be better than."""
    loss, latency = np.asarray(losses, dtype=np.float64), np.asarray(latencies_ms, dtype=np.float64)
    area, height = 0.0, reference[0]
    for place in pareto_front(loss, latency):
        width = reference[1] - float(latency[place])
        gain = height - float(loss[place])
        if width > 0 and gain > 0:
            area += width * gain
            height = float(loss[place])
    return area
