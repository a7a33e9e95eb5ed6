"""Where workers pin up how far they are and what went wrong, and the driver looks.

It stands alone, without PyTorch, because it becomes a process of its own on a cluster, and that must start quickly.
"""

from hat_ray.errors import HatRayError

Latest = tuple[int, int, dict[str, float]]
"""Updates done, updates in all, figures."""


class Board:
    """The latest progress of each training by number, and the first mistake of a user that any worker met."""

    def __init__(self) -> None:
        self._latest: dict[int, Latest] = {}
        self._mistake: HatRayError | None = None

    def tell(self, index: int, latest: Latest) -> None:
        self._latest[index] = latest

    def latest(self) -> dict[int, Latest]:
        return self._latest

    def fail(self, mistake: HatRayError) -> None:
        self._mistake = self._mistake or mistake

    def mistake(self) -> HatRayError | None:
        return self._mistake
