"""A search on an own Ray cluster, to be run as a process and killed; also what the cluster tests share.

Usage: python search_driver.py SEARCH_FOLDER SCORE_LOG [one|slowly]. `RAY_ADDRESS` names a cluster that is there.
"""

import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import ray
import torch
from search_stand_ins import depth_ms, macs_ms

from hat_ray.cluster.search import run_search_on_cluster
from hat_ray.core import console
from hat_ray.core.progress import no_progress
from hat_ray.corpus.batches import Batch
from hat_ray.corpus.vocabulary import EOS
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.reach import resolve_limits
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_macs
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

DEVICES = {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}
CONFIG = SearchConfig(
    algorithm_options={"population": 10, "parents": 5},
    evaluations=40,
    max_batch=3,
    limits_fraction=(0.3, 0.6),
)
ONE_AT_A_TIME = CONFIG.model_copy(update={"workers": 1, "max_batch": 1, "evaluations": 24})
"""Settings with which a search on a cluster repeats exactly."""


class LoggingScore:
    """Writes each architecture that it scores into a file; can kill its process once."""

    def __init__(
        self, log: Path, seconds: float = 0.0, dies_once_after: int | None = None, divides_by_zero: bool = False
    ) -> None:
        self._log, self._seconds, self._dies_once_after = log, seconds, dies_once_after
        self._divides_by_zero = divides_by_zero

    def __call__(self, architecture: Architecture) -> float:
        time.sleep(self._seconds)
        died = self._log.with_suffix(".died")
        count = len(self._log.read_text().split()) if self._log.exists() else 0
        if self._dies_once_after is not None and count >= self._dies_once_after and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with self._log.open("a") as log:
            log.write(architecture.id + "\n")
        return 1 / (0 if self._divides_by_zero else count_macs(architecture, 30))


def a_batch(vocabulary: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randint(4, vocabulary, (2, 4, 8), generator=generator)
    return Batch(source, torch.cat([torch.full((4, 1), EOS), target[:, :-1]], dim=1), target, target.numel())


def main(folder: str, log: str, how: str = "") -> None:
    config = ONE_AT_A_TIME if how == "one" else CONFIG
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, logging_level="ERROR")
    else:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    limits = resolve_limits(TOY, DEVICES, config)
    score = LoggingScore(Path(log), seconds=1.0 if how == "slowly" else 0.15)
    console.QUIET_SECONDS = 1.0
    with console.progress_bar("searching") if how == "slowly" else nullcontext(no_progress) as progress:
        run_search_on_cluster(TOY, DEVICES, limits, score, config, Folder.at(folder), 0, progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
