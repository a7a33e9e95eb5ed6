"""The search in one plain process: ask, score, tell, until nothing is left to ask for.

An interrupted search is run again with the same arguments: it asks for the same architectures, reuses the candidates of
the table, and continues as if it had never stopped.
"""

import time
from collections.abc import Sequence

from hat_ray.core.progress import Progress, no_progress
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import part_score
from hat_ray.search.engine.session import Phase, Score, Session
from hat_ray.search.frontier import SearchResult
from hat_ray.search.limits import Limit, Predictions
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder


def run_search(
    space: SearchSpace,
    predictions: Predictions,
    limits: Sequence[Limit],
    score: Score,
    config: SearchConfig,
    folder: Folder,
    seed: int,
    progress: Progress = no_progress,
    phase: Phase | None = None,
) -> SearchResult:
    """Search for every limit at once. Resumes the search in `folder`."""
    session = Session(space, predictions, limits, config, folder, seed, progress, phase)
    evolution = session.evolution
    session.begin()
    try:
        while asked := evolution.ask(1):
            for architecture in asked:
                if architecture in session.known:
                    session.reuse(architecture)
                    continue
                bars = session.bars(architecture)
                start = time.perf_counter()
                found = part_score(score, architecture, bars)
                session.record(architecture, found, time.perf_counter() - start)
    finally:
        session.write()
    return session.close()
